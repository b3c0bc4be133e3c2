"""Failures of a call of a node. Imports nothing heavy: every command imports these."""

from __future__ import annotations

from typing import Any

from node.client.chain_view import ChainUnreachable
from proto_specs.errors import MyelinError


class RpcUnreachable(ChainUnreachable):
    """No node answers at the address."""


class RpcError(MyelinError):
    """The node refused a call. `data` is for machines (`data["reason"]` for refused transactions)."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    def describe(self) -> dict[str, Any]:
        """`error` is the pool's name for the reason; the rest of `data` follows."""
        details: dict[str, Any] = self.data if isinstance(self.data, dict) else {}
        known = {name: value for name, value in details.items() if name != "reason"}
        return {**super().describe(), "error": details.get("reason", "RpcError"), "code": self.code, **known}
