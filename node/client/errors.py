"""Failures of a transaction or a request. Imports nothing heavy: every command imports these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proto_specs.errors import ExitStatus, MyelinError

if TYPE_CHECKING:
    from inference.serving.client import RequestFailed


class CallFailed(MyelinError):
    """The transaction is in a block, and its call was refused. `error` is the runtime's name for the reason."""

    def __init__(self, call: str, module: str, error: str) -> None:
        super().__init__(f"{call} failed: {module}.{error}")
        self.error = error


class TransactionLost(MyelinError):
    """The transaction did not make it into a block while it was valid."""


class InferenceRefused(MyelinError):
    """The request cannot be made, with nothing escrowed; or the chain tells no more of it. The message says which."""


class RequestLost(MyelinError):
    """A worker failed in mid-request, or none settled. The escrow comes back; `refund_height` says when."""

    exit_status = ExitStatus.WORKER_LOST

    def __init__(self, failure: RequestFailed, session: bytes, refund_height: int, refund: int) -> None:
        super().__init__(f"stage {failure.stage}: {failure.message} ({failure.code.name})")
        self.failure = failure
        self.session = session
        self.refund_height = refund_height
        self.refund = refund
