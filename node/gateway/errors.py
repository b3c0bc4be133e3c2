"""What a client is told when something fails: status, type and code, in OpenAI's words and in Anthropic's.

Knows no HTTP server. Every failure that a client can meet becomes an ApiRefusal here; anything else is a bug.
"""

from __future__ import annotations

import math
from typing import Any

import trio

from inference.errors import ModelError, TextTooLong, TokenizerError
from inference.routing import NoPathError
from node.client.chain_view import ChainUnreachable
from node.client.errors import CallFailed, EscrowShort, InferenceRefused, NobodyServes, RequestLost, TransactionLost
from node.client.rpc_errors import RpcError
from node.gateway.accounts.schema import DatabaseUnusable
from proto_specs.errors import MyelinError
from proto_specs.order_rules import OrderInvalid

RETRY_UPSTREAM_S = 5
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class ApiRefusal(MyelinError):
    """A request cannot be answered. `status` is HTTP's; `retry_after_s` is sent as Retry-After.

    `myelin` says what it cost nevertheless; it is empty when nothing was asked of the network.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.myelin: dict[str, Any] = {}

    def to_openai(self) -> dict[str, Any]:
        """The body as OpenAI's API has it."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        if self.myelin:
            error["myelin"] = self.myelin
        return {"error": error}

    def to_anthropic(self) -> dict[str, Any]:
        """The body as Anthropic's API has it."""
        error: dict[str, Any] = {"type": _ANTHROPIC_TYPES.get(self.status, "api_error"), "message": self.message}
        if self.myelin:
            error["myelin"] = self.myelin
        return {"type": "error", "error": error}

    def make_headers(self) -> dict[str, str]:
        """Headers that go with it."""
        headers = {} if self.retry_after_s is None else {"retry-after": str(max(1, math.ceil(self.retry_after_s)))}
        if self.code == "insufficient_quota":
            headers["x-should-retry"] = "false"  # OpenAI's clients heed it: asking again soon is no use
        return headers


def refuse(message: str, param: str | None = None, code: str | None = None) -> ApiRefusal:
    """400: the request itself is wrong."""
    return ApiRefusal(400, message, param=param, code=code)


def refuse_context(message: str, param: str = "messages") -> ApiRefusal:
    """400: prompt and answer do not fit the model."""
    return ApiRefusal(400, message, param=param, code="context_length_exceeded")


def refuse_key() -> ApiRefusal:
    """401: no key, an unknown one or a revoked one."""
    message = "the API key is missing, unknown or revoked: send `Authorization: Bearer sk-myelin-...` or x-api-key"
    return ApiRefusal(401, message, code="invalid_api_key")


def refuse_model(name: str) -> ApiRefusal:
    """404: no such model here, or not for this key."""
    message = f"the model {name!r:.120} does not exist here or your key may not use it: see /v1/models"
    return ApiRefusal(404, message, param="model", code="model_not_found")


def refuse_rate(what: str, wait_s: float) -> ApiRefusal:
    """429: too fast."""
    message = f"your key's rate limit of {what} is reached: try again in {wait_s:.1f} s"
    return ApiRefusal(429, message, code="rate_limit_exceeded", kind="rate_limit_error", retry_after_s=wait_s)


def refuse_quota(message: str, retry_after_s: float) -> ApiRefusal:
    """429: the key's budget is used up."""
    return ApiRefusal(429, message, code="insufficient_quota", kind="insufficient_quota", retry_after_s=retry_after_s)


def translate(error: BaseException) -> ApiRefusal | None:
    """What a client is told of a failure; None for a bug of ours, and for a cancellation. Looks inside groups."""
    if isinstance(error, BaseExceptionGroup):
        told = [translate(one) for one in error.exceptions if not isinstance(one, trio.Cancelled)]
        return told[0] if told and None not in told else None
    match error:
        case ApiRefusal():
            return error
        case RequestLost():
            return ApiRefusal(502, error.message, code="worker_lost", kind="server_error")
        case NoPathError():
            return _make_upstream(error, "no_path")
        case NobodyServes():
            return _make_upstream(error, "workers_busy" if error.is_busy else "no_worker")
        case EscrowShort():
            return _make_upstream(error, "account_cannot_fund")
        case ChainUnreachable():
            return _make_upstream(error, "chain_unreachable")
        case CallFailed() | RpcError() | TransactionLost():
            return _make_upstream(error, "no_session")
        case TextTooLong():
            return refuse_context(error.message)
        case OrderInvalid() | InferenceRefused() | TokenizerError():
            return refuse(error.message)
        case DatabaseUnusable():
            return _make_upstream(error, "database_unusable")
        case ModelError():
            return _make_upstream(error, "model_unusable")
        case MyelinError():
            return _make_upstream(error, "upstream")
        case _:
            return None


def _make_upstream(error: MyelinError, code: str) -> ApiRefusal:
    return ApiRefusal(503, error.message, code=code, kind="server_error", retry_after_s=RETRY_UPSTREAM_S)
