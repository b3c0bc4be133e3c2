"""The events of one request, in order: for its task, or handled at once while that waits and nothing is before them.

A task switch costs as much as handling a frame does, and each token of each request meets two of them here.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from inference.serving.events import StageEffect
from node.client.link import FrameLink

E = TypeVar("E")


@dataclass(frozen=True)
class LinkGone:
    """A link is gone."""

    link: FrameLink


class DeadlineMoved:
    """A deadline has changed."""


@dataclass(frozen=True)
class Rest:
    """What is left to do of an event that was handled at once; `error` is a bug that it met."""

    effects: list[StageEffect]
    error: Exception | None = None


class RequestInbox(Generic[E]):
    """One task gets; anybody puts."""

    def __init__(self, events_max: int, take_now: Callable[[E], E | None]) -> None:
        """`take_now` handles an event without waiting, and returns what is left of it for the task, if anything."""
        self._sender, self._receiver = trio.open_memory_channel[E](events_max)
        self._take_now = take_now
        self._is_task_free = False
        self._within: deque[E] | None = None
        """Events put while one is handled: they come after all of it."""
        self.waiting = 0
        """Events put for the task that it has not got yet."""

    def put(self, event: E) -> None:
        """Raises WouldBlock when the task is too far behind. After `close` events are dropped."""
        if self._within is not None:
            self._within.append(event)
            return
        self._within = deque([event])
        try:
            while self._within:
                self._put_one(self._within.popleft())
        finally:
            self._within = None

    def _put_one(self, event: E) -> None:
        if self._is_task_free and not self.waiting:
            left = self._take_now(event)
            if left is None:
                return
            event = left
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._sender.send_nowait(event)
            self.waiting += 1

    async def get(self) -> E:
        """The next event. Safe to cancel. Raises ClosedResourceError after `close`."""
        self._is_task_free = True
        try:
            event = await self._receiver.receive()
        finally:
            self._is_task_free = False
        self.waiting -= 1
        return event

    def close(self) -> None:
        """Nothing more is taken."""
        self._receiver.close()
        self.waiting = 0
