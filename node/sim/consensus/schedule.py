"""Virtual time: a heap of callbacks. Callbacks of the same millisecond run in the order of their registration."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class FaultSchedule:
    """Virtual time in milliseconds since the simulation began."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    def after(self, delay_ms: int, then: Callable[[], None]) -> None:
        """Call `then` after `delay_ms`."""
        heapq.heappush(self._events, (self.now_ms + delay_ms, next(self._order), then))

    def run(self, until_ms: int, is_done: Callable[[], bool]) -> None:
        """Run all callbacks up to a moment, or until `is_done`, which is asked after every callback."""
        while self._events and self._events[0][0] <= until_ms and not is_done():
            self.now_ms, _, then = heapq.heappop(self._events)
            then()
