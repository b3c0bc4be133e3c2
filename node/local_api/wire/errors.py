"""Errors of JSON-RPC methods: a code, a text for people, and data for machines."""

from __future__ import annotations

from typing import Any

from proto_specs.errors import MyelinError

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
INVALID_TRANSACTION = 1010
LIMIT_EXCEEDED = -32005
NODE_UNREACHABLE = -32010
STATE_UNAVAILABLE = -32011
NOT_ALLOWED = -32012

MEANINGS = {
    PARSE_ERROR: "the text is no JSON",
    INVALID_REQUEST: "no request object, or an id that is neither text, number nor null",
    METHOD_NOT_FOUND: "no such method, or a subscription over HTTP",
    INVALID_PARAMS: "a parameter is wrong; the message names it",
    INTERNAL_ERROR: "a fault of the node; its log has the details",
    LIMIT_EXCEEDED: "a limit: batch, rate, subscriptions, bytes (over HTTP with status 413)",
    NODE_UNREACHABLE: "the node does not answer: try again",
    STATE_UNAVAILABLE: "the state at that block is not here",
    NOT_ALLOWED: "an unsafe method, and the caller is not the operator",
    INVALID_TRANSACTION: "the transaction is refused",
}
"""The general meaning of each code; an error's message says what happened."""


class ApiError(MyelinError):
    """A method's refusal."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """The `error` member of a response."""
        body: dict[str, Any] = {"code": self.code, "message": str(self)}
        return body if self.data is None else {**body, "data": self.data}
