"""JSON-RPC 2.0: from untrusted text to calls, and from results to text. Knows batches and limits, no transport."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from node.local_api.wire.errors import INVALID_PARAMS, INVALID_REQUEST, LIMIT_EXCEEDED, PARSE_ERROR, ApiError
from node.local_api.wire.frames import CALLS_MAX, Params

BODY_BYTES_MAX = 1 << 20

Call = tuple[str, Params]
Dispatch = Callable[[Sequence[Call]], Awaitable[Sequence[Any]]]
"""(method, params) of each call of a request or batch -> its result or an ApiError, in the same order."""


async def answer_text(text: bytes, dispatch: Dispatch) -> bytes | None:
    """The response to a request or batch as JSON bytes; None for notifications only. Never raises."""
    try:
        request = _parse(text)
    except ApiError as error:
        return make_refusal(error)
    if not isinstance(request, list):
        responses = await _answer_all([request], dispatch)
        return _encode(responses[0]) if responses else None
    if not request:
        return _encode(_make_error(None, ApiError(INVALID_REQUEST, "an empty batch")))
    if len(request) > CALLS_MAX:
        return _encode(_make_error(None, ApiError(LIMIT_EXCEEDED, f"a batch has at most {CALLS_MAX} calls")))
    responses = await _answer_all(request, dispatch)
    return _encode(responses) if responses else None


def make_refusal(error: ApiError) -> bytes:
    """The response to what could not be read as a request."""
    return _encode(_make_error(None, error))


def _parse(text: bytes) -> Any:
    if len(text) > BODY_BYTES_MAX:
        raise ApiError(LIMIT_EXCEEDED, f"a request has at most {BODY_BYTES_MAX} bytes")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(PARSE_ERROR, "the request is no JSON") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


async def _answer_all(requests: Sequence[Any], dispatch: Dispatch) -> list[dict[str, Any]]:
    """A response for each request that is not a notification."""
    outcomes: list[Any] = [_read_request(one) for one in requests]
    places = [at for at, one in enumerate(outcomes) if not isinstance(one, ApiError)]
    if places:
        answers = await dispatch([outcomes[at] for at in places])
        for at, answer in zip(places, answers, strict=True):
            outcomes[at] = answer
    return [
        _make_error(_get_id(one), outcome)
        if isinstance(outcome, ApiError)
        else {"jsonrpc": "2.0", "id": one["id"], "result": outcome}
        for one, outcome in zip(requests, outcomes, strict=True)
        if not _is_notification(one)
    ]


def _read_request(request: Any) -> Call | ApiError:
    if not isinstance(request, dict):
        return ApiError(INVALID_REQUEST, "a request is an object")
    if not _is_id(request.get("id")):
        return ApiError(INVALID_REQUEST, "an id is text, a number or null")
    method, params = request.get("method"), request.get("params", [])
    if request.get("jsonrpc") != "2.0" or not isinstance(method, str):
        return ApiError(INVALID_REQUEST, 'a request is {"jsonrpc": "2.0", "id", "method", "params"}')
    if not isinstance(params, list | dict):
        return ApiError(INVALID_PARAMS, "params have to be a list, in the documented order, or an object")
    return method, params


def _is_notification(request: Any) -> bool:
    """Whether this is a well-formed request without an id, which gets no answer whatever its result."""
    is_request = (
        isinstance(request, dict) and request.get("jsonrpc") == "2.0" and isinstance(request.get("method"), str)
    )
    return is_request and "id" not in request


def _get_id(request: Any) -> Any:
    found = request.get("id") if isinstance(request, dict) else None
    return found if _is_id(found) else None


def _is_id(value: Any) -> bool:
    """Whether a value may be an id. 1e999 may not: it reads as infinity, which JSON cannot write."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _make_error(call_id: Any, error: ApiError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "error": error.to_json()}


def _encode(response: Any) -> bytes:
    return json.dumps(response, separators=(",", ":"), allow_nan=False).encode()
