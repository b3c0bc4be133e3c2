"""Failures of a call of a node. Imports nothing heavy: every command imports these."""

from __future__ import annotations

from typing import Any

from node.client.chain_view import ChainUnreachable


class RpcUnreachable(ChainUnreachable):
    """No node answers at the address."""


class RpcError(Exception):
    """The node refused a call. `data` is for machines (`data["reason"]` for refused transactions)."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data
