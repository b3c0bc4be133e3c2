"""JSON-RPC 2.0: from untrusted text to calls, and from results to text. Batches, limits, no transport."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from node.api.errors import INVALID_PARAMS, INVALID_REQUEST, LIMIT_EXCEEDED, PARSE_ERROR, ApiError

BODY_BYTES_MAX = 1 << 20
BATCH_CALLS_MAX = 100

Params = list[Any] | dict[str, Any]
Dispatch = Callable[[str, Params], Awaitable[Any]]
"""(method, params) -> result; raises ApiError."""


async def answer_text(text: bytes, dispatch: Dispatch) -> bytes | None:
    """The response to a request or batch as JSON bytes; None when it held notifications only. Never raises."""
    try:
        request = _parse(text)
    except ApiError as error:
        return _encode(_make_error(None, error))
    if not isinstance(request, list):
        response = await _answer_one(request, dispatch)
        return None if response is None else _encode(response)
    if not request:
        return _encode(_make_error(None, ApiError(INVALID_REQUEST, "an empty batch")))
    if len(request) > BATCH_CALLS_MAX:
        return _encode(_make_error(None, ApiError(LIMIT_EXCEEDED, f"a batch has at most {BATCH_CALLS_MAX} calls")))
    responses = [response for one in request if (response := await _answer_one(one, dispatch)) is not None]
    return _encode(responses) if responses else None


def _parse(text: bytes) -> Any:
    if len(text) > BODY_BYTES_MAX:
        raise ApiError(LIMIT_EXCEEDED, f"a request has at most {BODY_BYTES_MAX} bytes")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(PARSE_ERROR, "the request is no JSON") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


async def _answer_one(request: Any, dispatch: Dispatch) -> dict[str, Any] | None:
    call_id: Any = None
    is_notification = False
    try:
        if not isinstance(request, dict):
            raise ApiError(INVALID_REQUEST, "a request is an object")
        call_id = request.get("id")
        if not _is_id(call_id):
            call_id = None
            raise ApiError(INVALID_REQUEST, "an id is text, a number or null")
        method, params = request.get("method"), request.get("params", [])
        if request.get("jsonrpc") != "2.0" or not isinstance(method, str):
            raise ApiError(INVALID_REQUEST, 'a request is {"jsonrpc": "2.0", "id", "method", "params"}')
        is_notification = "id" not in request
        if not isinstance(params, list | dict):
            raise ApiError(INVALID_PARAMS, "params have to be a list, in the documented order, or an object")
        result = await dispatch(method, params)
    except ApiError as error:
        return None if is_notification else _make_error(call_id, error)
    return None if is_notification else {"jsonrpc": "2.0", "id": call_id, "result": result}


def _is_id(value: Any) -> bool:
    """1e999 is JSON, reads as infinity, and cannot be written back."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _make_error(call_id: Any, error: ApiError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "error": error.to_json()}


def _encode(response: Any) -> bytes:
    return json.dumps(response, separators=(",", ":"), allow_nan=False).encode()
