"""The exception that refuses an order."""

from __future__ import annotations

from proto_specs.errors import MyelinError
from proto_specs.types.wire import FailureCode


class OrderRefused(MyelinError):
    """The order is not taken. `code` and the message go to the client."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code
