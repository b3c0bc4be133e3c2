"""Failures of a transaction or a request. Imports nothing heavy: every command imports these."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.serving.client import RequestFailed


class CallFailed(Exception):
    """The transaction is in a block, and its call was refused. `error` is the runtime's name for the reason."""

    def __init__(self, call: str, module: str, error: str) -> None:
        super().__init__(f"{call} failed: {module}.{error}")
        self.error = error


class TransactionLost(Exception):
    """The transaction did not get into a block while it was valid."""


class RequestRefused(Exception):
    """The request cannot be made, and nothing is escrowed; or the chain has forgotten it. The message says which."""


class RequestLost(Exception):
    """A worker failed during the request, or none settled it. The escrow returns at `refund_height`."""

    def __init__(self, failure: RequestFailed, session: bytes, refund_height: int, refund: int) -> None:
        super().__init__(f"stage {failure.stage}: {failure.message} ({failure.code.name})")
        self.failure = failure
        self.session = session
        self.refund_height = refund_height
        self.refund = refund
