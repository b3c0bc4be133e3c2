"""Virtual time in seconds: a heap of callbacks, and trio's clock set to it, so that the product's code reads it too.

Callbacks of the same moment run in the order of their registration. The product's coroutines run to their end within
one callback: nothing here blocks, so nothing of trio's scheduling, which is random, decides anything.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import trio

Result = TypeVar("Result")


class VirtualTime:
    """Seconds since the simulation began."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.count = 0
        """Callbacks that ran."""
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def after(self, delay_s: float, then: Callable[..., None], *args: Any) -> None:
        """Call `then` after `delay_s`."""
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._order), then, args))

    def run(self, until_s: float) -> None:
        """Run all callbacks up to a moment, within a trio run whose clock this is."""
        events = self._events
        while events and events[0][0] <= until_s:
            self.now_s, _, then, args = heapq.heappop(events)
            self.count += 1
            then(*args)
        self.now_s = max(self.now_s, until_s)


class _TrioClock(trio.abc.Clock):
    def __init__(self, virtual: VirtualTime) -> None:
        self._virtual = virtual

    def start_clock(self) -> None:
        """Nothing to start."""

    def current_time(self) -> float:
        return self._virtual.now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return max(0.0, deadline - self._virtual.now_s)


def run_virtually(virtual: VirtualTime, work: Callable[[], Result]) -> Result:
    """Call `work` where `trio.current_time()` is the virtual time."""

    async def main() -> Result:
        return work()

    return trio.run(main, clock=_TrioClock(virtual))


def finish(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    coroutine.close()
    raise RuntimeError("the coroutine waits: in a simulation everything that is asked answers at once")
