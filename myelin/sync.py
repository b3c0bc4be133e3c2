"""The client without async: the same calls, carried out by a trio loop in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from myelin.client import AnswerReceipt, AnswerText, Client, Message, Payment, connect
from node.client.answer import RequestOutcome


class SyncAnswer:
    """An answer as pieces of text. Iterate it to the end, or call `close`, which cancels the rest."""

    def __init__(self, call: Callable[..., Any], answer: AnswerText) -> None:
        self._call = call
        self._answer = answer

    @property
    def receipt(self) -> AnswerReceipt:
        """See AnswerText."""
        return self._answer.receipt

    def __iter__(self) -> Iterator[str]:
        """Pieces of text, none of them empty. Leaving the loop early closes it."""
        try:
            while (piece := self._call(self._read)) is not None:
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        """End it."""
        self._call(self._answer.aclose)

    async def _read(self) -> str | None:
        return await anext(self._answer, None)


class SyncClient:
    """See Client. Made by `connect_sync` only; may be used from several threads."""

    def __init__(self, client: Client, token: trio.lowlevel.TrioToken) -> None:
        self._client = client
        self._token = token

    def chat(self, messages: Sequence[Message], **options: Any) -> SyncAnswer:
        """See Client.chat."""
        return SyncAnswer(self._run, self._client.chat(messages, **options))

    def outcome(self, request: bytes) -> RequestOutcome:
        """See Client.outcome."""
        found: RequestOutcome = self._run(self._client.outcome, request)
        return found

    def payment(self, request: bytes) -> Payment | None:
        """See Client.payment."""
        found: Payment | None = self._run(self._client.payment, request)
        return found

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        return trio.from_thread.run(function, *args, trio_token=self._token)


@contextmanager
def connect_sync(*, rpc: str, seed: bytes, models: Path, sessions: Path | None = None) -> Iterator[SyncClient]:
    """A client for the block; see `connect`."""
    started: Future[tuple[SyncClient, trio.lowlevel.TrioToken, trio.Event]] = Future()

    async def serve() -> None:
        async with connect(rpc=rpc, seed=seed, models=models, sessions=sessions) as client:
            token, ended = trio.lowlevel.current_trio_token(), trio.Event()
            started.set_result((SyncClient(client, token), token, ended))
            await ended.wait()

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="myelin-client")
    thread.start()
    try:
        client, token, ended = started.result()
        try:
            yield client
        finally:
            token.run_sync_soon(ended.set)
    finally:
        thread.join()
