"""Ctrl-C: it stops the answer under way, or, when there is none or it is being stopped already, the whole command."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio


class StopKey:
    """Hears of SIGINT. While an answer is under way the first one stops the answer alone."""

    def __init__(self, command: trio.CancelScope) -> None:
        self._command = command
        self._answer: trio.CancelScope | None = None

    @property
    def is_leaving(self) -> bool:
        """Whether Ctrl-C ended the command."""
        return self._command.cancel_called

    async def watch(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Obey until cancelled."""
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                self.press()

    def press(self) -> None:
        """What Ctrl-C does now."""
        if self._answer is not None and not self._answer.cancel_called:
            self._answer.cancel()
        else:
            self._command.cancel()

    @contextmanager
    def stopping_answer(self) -> Iterator[trio.CancelScope]:
        """For the block, Ctrl-C cancels it. `cancel_called` of the scope says whether that happened."""
        with trio.CancelScope() as scope:
            self._answer = scope
            try:
                yield scope
            finally:
                self._answer = None


@asynccontextmanager
async def open_stop_key() -> AsyncIterator[StopKey]:
    """For the block; Ctrl-C leaves it quietly when there is no answer to stop."""
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as command:
            key = StopKey(command)
            await nursery.start(key.watch)
            yield key
        nursery.cancel_scope.cancel()
