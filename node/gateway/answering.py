"""The HTTP answer to a call: a JSON object at the end, or events as they come; cancelled when the client goes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import trio
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from node.gateway.calls import CallRun, Choice
from node.gateway.errors import ApiRefusal, translate
from node.gateway.generation import Ending, Piece
from node.gateway.http.sse import EventWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a whole call came to: tokens, and the `myelin` field."""

    prompt_tokens: int
    generated_tokens: int
    myelin: dict[str, Any]


class AnswerForm(Protocol):
    """An API's way to say an answer. Every event method returns bytes to send, none for nothing."""

    def open(self, choices: Sequence[Choice]) -> bytes:
        """The answer begins."""

    def add(self, choice: Choice, piece: Piece) -> bytes:
        """A piece came."""

    def end(self, choice: Choice, ending: Ending) -> bytes:
        """A choice is complete."""

    def close(self, totals: Totals) -> bytes:
        """All is complete."""

    def fail(self, error: ApiRefusal) -> bytes:
        """It fails in the middle: the last bytes."""

    def make_whole(self, totals: Totals) -> dict[str, Any]:
        """All of what was added and ended, as one object."""

    def make_error(self, error: ApiRefusal) -> dict[str, Any]:
        """The body of an error before anything was sent."""


class AnswerResponse:
    """An ASGI response that runs a call."""

    def __init__(self, run: CallRun, form: AnswerForm, *, is_streamed: bool) -> None:
        self._run = run
        self._form = form
        self._is_streamed = is_streamed
        self._request_id = make_request_id()
        self._writer: EventWriter | None = None
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; leave everything at once when the client goes."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_on_disconnect, receive, nursery.cancel_scope)
                await self._answer(scope, receive, send)
                self._is_over = True
                nursery.cancel_scope.cancel()
        finally:
            self._run.end_journal(is_final=self._is_over)

    async def on_started(self, choices: Sequence[Choice]) -> None:
        """Headers, and the first events."""
        if self._writer is not None:
            await self._writer.start({**self._make_ids(), **make_headers(choices)})
            if data := self._form.open(choices):
                await self._writer.write(data)
        else:
            self._form.open(choices)

    async def on_piece(self, choice: Choice, piece: Piece) -> None:
        """Events of a piece."""
        data = self._form.add(choice, piece)
        if data and self._writer is not None:
            await self._writer.write(data)

    async def on_end(self, choice: Choice, ending: Ending) -> None:
        """Events of a choice's end."""
        data = self._form.end(choice, ending)
        if data and self._writer is not None:
            await self._writer.write(data)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._is_streamed:
                self._writer = EventWriter(send)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._writer.keep_alive)
                    await self._run.run(self)
                    await self._run.wait_resolved()
                    nursery.cancel_scope.cancel()
                await self._writer.write(self._form.close(self._make_totals()))
                await _finish(self._writer)
                return
            await self._run.run(self)
            await self._run.wait_resolved()
            headers = make_headers(self._run.choices)
            totals = self._make_totals()
            headers["x-myelin-cost"] = str(totals.myelin["cost_nmyl"])
            response = JSONResponse(self._form.make_whole(totals), headers={**self._make_ids(), **headers})
        except Exception as error:
            known = translate(error) or _make_bug(error)
            known.myelin = self._run.describe()
            if self._writer is not None and self._writer.is_started:
                await self._writer.write(self._form.fail(known))
                await _finish(self._writer)
                return
            response = make_error_response(self._form.make_error(known), known, self._request_id)
        with trio.CancelScope(shield=True):
            await response(scope, receive, send)

    async def _cancel_on_disconnect(self, receive: Receive, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_over = True
        scope.cancel()

    def _make_ids(self) -> dict[str, str]:
        """The request's id under both names: OpenAI's and Anthropic's."""
        return {"x-request-id": self._request_id, "request-id": self._request_id}

    def _make_totals(self) -> Totals:
        run = self._run
        return Totals(run.prompt_tokens, run.generated_tokens, run.describe())


def make_request_id() -> str:
    """An id of an HTTP request."""
    return f"req_{os.urandom(12).hex()}"


def make_headers(choices: Sequence[Choice]) -> dict[str, str]:
    """Requests, session, path and highest price of an answer, as headers."""
    answers = [one.answer for one in choices if one.answer is not None]
    if not answers:
        return {}
    paths = []
    for answer in answers:
        path = ",".join(f"{one.worker.hex()[:8]}:{one.start}-{one.end}" for one in answer.path)
        if path not in paths:
            paths.append(path)
    return {
        "x-myelin-request": ",".join(one.request.hex() for one in answers),
        "x-myelin-session": answers[0].session.hex(),
        "x-myelin-path": ";".join(paths),
        "x-myelin-price-max": str(sum(one.cost_max_nmyl for one in answers)),
    }


def make_error_response(body: dict[str, Any], error: ApiRefusal, request_id: str | None = None) -> JSONResponse:
    """An error as a response of its status."""
    named = request_id or make_request_id()
    headers = {"x-request-id": named, "request-id": named, **error.make_headers()}
    if error.myelin:
        headers["x-myelin-cost"] = str(error.myelin.get("cost_nmyl", 0))
    return JSONResponse(body, status_code=error.status, headers=headers)


def _make_bug(error: BaseException) -> ApiRefusal:
    log.error("an answer failed by a bug", exc_info=error)
    return ApiRefusal(500, "the gateway failed by a bug of its own: its log has the details", kind="server_error")


async def _finish(writer: EventWriter) -> None:
    """hypercorn says "disconnect" within the last send: cancelled there, it would neither close nor go on."""
    with trio.CancelScope(shield=True):
        await writer.finish()
