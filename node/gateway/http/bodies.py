"""Reads a request's body within bounds and makes a typed value of it. Raises ApiRefusal alone."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar

import trio
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from node.gateway.errors import ApiRefusal, refuse
from node.gateway.http.limits import BODY_BYTES_MAX, BODY_TIMEOUT_S, JSON_DEPTH_MAX

Body = TypeVar("Body", bound=BaseModel)
_SHOWN_CHARS = 200


async def read_json(request: Request, form: type[Body]) -> Body:
    """The body as `form`. Raises ApiRefusal: 400, 408 or 413; ClientDisconnect when the client has gone."""
    data = await _read_bytes(request)
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise refuse("the body is not JSON: send UTF-8 JSON with Content-Type: application/json") from None
    if not isinstance(value, dict):
        raise refuse("the body is no JSON object")
    _check_values(value)
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise _explain(error) from None


async def _read_bytes(request: Request) -> bytes:
    too_large = ApiRefusal(413, f"the body has more than {BODY_BYTES_MAX} bytes: shorten it", code="request_too_large")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and (len(stated) > 18 or int(stated) > BODY_BYTES_MAX):
        raise too_large
    parts: list[bytes] = []
    size = 0
    with trio.move_on_after(BODY_TIMEOUT_S) as scope:
        async with aclosing(request.stream()) as stream:
            async for part in stream:
                size += len(part)
                if size > BODY_BYTES_MAX:
                    break
                parts.append(part)
    if scope.cancelled_caught:
        raise ApiRefusal(408, f"the body did not come within {BODY_TIMEOUT_S:.0f} s: send it again", code="timeout")
    if size > BODY_BYTES_MAX:
        raise too_large
    return b"".join(parts)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_values(value: Any) -> None:
    """Bounded depth, and no text that is not Unicode: both would fail far from here."""
    stack = [(value, 0)]
    while stack:
        one, depth = stack.pop()
        if depth > JSON_DEPTH_MAX:
            raise refuse(f"the body is nested more than {JSON_DEPTH_MAX} deep: flatten it")
        if isinstance(one, dict):
            stack += [(inner, depth + 1) for pair in one.items() for inner in pair]
        elif isinstance(one, list):
            stack += [(inner, depth + 1) for inner in one]
        elif isinstance(one, str) and not one.isascii():
            try:
                one.encode()
            except UnicodeEncodeError:
                raise refuse("a text in the body holds lone surrogates: send valid Unicode") from None


def _explain(error: ValidationError) -> ApiRefusal:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    first = max(found, key=lambda one: len(one["loc"]))  # of a union's branches, the one that got furthest
    places = [str(one) for one in first["loc"]]
    param = ".".join(places) or None
    text = first["msg"].removeprefix("Value error, ")
    message = f"{param}: {text}" if param else text
    return refuse(message[:_SHOWN_CHARS], param=None if param is None else param[:_SHOWN_CHARS])
