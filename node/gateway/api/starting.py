"""From a composed call to its HTTP answer; the call is journaled, so that another run of the gateway can go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from node.gateway.answering import AnswerForm, AnswerResponse
from node.gateway.calls import Call, CallRun
from node.gateway.composing import PREFER_HEADER, WAIT_HEADER, Desk
from node.gateway.journal import JournalHead

_KEPT_HEADERS = (WAIT_HEADER, PREFER_HEADER)


@dataclass(frozen=True, slots=True)
class Composed:
    """A call, and the words in which it is answered."""

    call: Call
    form: AnswerForm
    is_streamed: bool


def start_answer(
    desk: Desk, route: str, asked: BaseModel, headers: Mapping[str, str], composed: Composed
) -> AnswerResponse:
    """Answer a new call. `asked` is its body, by which `route` can compose it again."""
    call = composed.call
    body = asked.model_dump(mode="json", by_alias=True, exclude_unset=True)
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    journal = desk.journals.begin(JournalHead(route, body, kept, call.key.number, call.asks))
    return AnswerResponse(CallRun(desk.counters, call, journal), composed.form, is_streamed=composed.is_streamed)
