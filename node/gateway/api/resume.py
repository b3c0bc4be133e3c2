"""POST /v1/requests/ID/resume: the whole answer of a request that was under way when the gateway died."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from node.client.answer import AnsweredBefore, Ask
from node.gateway.accounts.keys import ApiKey
from node.gateway.answering import AnswerResponse
from node.gateway.api import chat, completions, messages, responses
from node.gateway.api.requests import find_request
from node.gateway.api.schemas.chat import ChatRequest
from node.gateway.api.schemas.completions import CompletionRequest
from node.gateway.api.schemas.messages import MessagesRequest
from node.gateway.api.schemas.responses import ResponsesRequest
from node.gateway.api.starting import Composed
from node.gateway.calls import Call, CallRun
from node.gateway.composing import Desk
from node.gateway.errors import ApiRefusal
from node.gateway.journal import RESUMES_MAX, ChoiceSoFar, LeftAnswer

Composing = Callable[[Desk, ApiKey, Any, Mapping[str, str]], Awaitable[Composed]]
_ROUTES: dict[str, tuple[type[BaseModel], Composing]] = {
    chat.ROUTE: (ChatRequest, chat.compose_chat),
    completions.ROUTE: (CompletionRequest, completions.compose_completion),
    messages.ROUTE: (MessagesRequest, messages.compose_messages),
    responses.ROUTE: (ResponsesRequest, responses.compose_responses),
}


async def resume_request(desk: Desk, request: Request) -> AnswerResponse:
    """The route. Raises ApiRefusal 404 for what the key has not made, 409 for what runs or is over; as the others."""
    key = desk.admit(request)
    row = find_request(desk, key, request.path_params["request"])
    left = _find_left(desk, key, row.request)
    form, compose = _ROUTES[left.head.route]
    try:
        asked = form.model_validate(left.head.body)
    except ValidationError as error:  # written by a version that took more than this one
        raise _refuse_over("what was asked is not understood any more") from error
    composed = await compose(desk, key, asked, left.head.headers)
    _find_left(desk, key, row.request)  # nobody else has taken it meanwhile
    if any(one.model != composed.call.model.model for one in left.head.asks):
        raise _refuse_over("another model has its name by now")
    call = _continue(composed.call, left)
    journal = desk.journals.resume(left)
    return AnswerResponse(CallRun(desk.counters, call, journal), composed.form, is_streamed=composed.is_streamed)


def _find_left(desk: Desk, key: ApiKey, request: bytes) -> LeftAnswer:
    if desk.journals.is_running(request):
        raise ApiRefusal(409, "this answer is under way: wait for its end", code="request_running")
    left = desk.journals.find(request)
    if left is None or left.head.key != key.number or left.head.route not in _ROUTES:
        raise _refuse_over("it is over, was cancelled, or its answer was never journaled")
    if left.resumes >= RESUMES_MAX:
        raise _refuse_over(f"it was resumed {RESUMES_MAX} times already")
    return left


def _refuse_over(why: str) -> ApiRefusal:
    text = f"this answer cannot be resumed: {why}; see /v1/requests/ID, and ask anew"
    return ApiRefusal(409, text, code="request_not_resumable")


def _continue(call: Call, left: LeftAnswer) -> Call:
    """The call as it was ordered then, with what came of it."""
    asks = (_go_on(ask, so_far, left.epoch) for ask, so_far in zip(left.head.asks, left.choices, strict=True))
    return replace(call, asks=tuple(asks), so_far=tuple(left.choices))


def _go_on(ask: Ask, so_far: ChoiceSoFar, epoch: int) -> Ask:
    if not so_far.requests:
        return ask
    tokens = tuple(one.token for one in so_far.items)
    return replace(ask, before=AnsweredBefore(so_far.requests[-1], tokens, epoch))
