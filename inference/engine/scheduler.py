"""Continuous batching as a pure state machine: `schedule()` returns the next step, `update()` reports that it ran.

Decode runs first, so that no prompt delays a running generation; then prefill, in chunks that end at window
boundaries, so that every finished window can be hashed and signed at once. Requests of one kind take turns in order
of arrival. Knows no tensors: the caller keeps the rows and hands them to the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.errors import EngineError
from proto_specs.limits import WINDOW_POSITIONS


@dataclass(frozen=True)
class Work:
    """Positions [start, start + count) of one request."""

    request_id: bytes
    start: int
    count: int


@dataclass(frozen=True)
class EngineStep:
    """The work of one engine pass; empty when no position is ready."""

    works: tuple[Work, ...]


@dataclass
class _Pending:
    """Positions [start, end) have arrived and are not computed yet; `running` of them are in a step now."""

    start: int
    end: int
    running: int = 0


class Scheduler:
    """Decides which ready positions run next. `rows_max` bounds the rows of a step (a decode row counts 1)."""

    def __init__(self, rows_max: int = 2 * WINDOW_POSITIONS) -> None:
        if rows_max < WINDOW_POSITIONS:
            raise EngineError(f"a step holds at least one window of {WINDOW_POSITIONS} rows, not {rows_max}")
        self._rows_max = rows_max
        self._pending: dict[bytes, _Pending] = {}  # insertion order is the order of turns

    def enqueue(self, request_id: bytes, start: int, count: int) -> None:
        """Positions [start, start + count) of a request can run. Raises EngineError if they leave a gap or overlap."""
        if start < 0 or count < 1:
            raise EngineError(f"cannot enqueue {count} positions from {start}")
        pending = self._pending.setdefault(request_id, _Pending(start, start))
        if start != pending.end:
            raise EngineError(f"position {start} does not follow {pending.end} of request {request_id.hex()[:16]}")
        pending.end = start + count

    def schedule(self) -> EngineStep:
        """The next step. Its positions are not scheduled again before `update`."""
        ready = [(key, one) for key, one in self._pending.items() if not one.running and one.start < one.end]
        decodes = [pair for pair in ready if pair[1].end - pair[1].start == 1]
        prefills = [pair for pair in ready if pair[1].end - pair[1].start > 1]
        room = self._rows_max
        works: list[Work] = []
        for request_id, pending in decodes + prefills:
            count = min(pending.end, _next_boundary(pending.start)) - pending.start
            if count > room:
                break  # no overtaking among equals: a chunk cut short would leave its window open
            pending.running = count
            room -= count
            works.append(Work(request_id, pending.start, count))
        return EngineStep(tuple(works))

    def update(self, step: EngineStep) -> None:
        """Marks the step as run; its requests go to the end of the queue. Requests removed meanwhile are ignored."""
        for work in step.works:
            pending = self._pending.pop(work.request_id, None)
            if pending is None:
                continue
            if pending.running:
                assert (pending.start, pending.running) == (work.start, work.count), "steps are reported once"
                pending.start += pending.running
                pending.running = 0
            self._pending[work.request_id] = pending

    def truncate(self, request_id: bytes, length: int) -> None:
        """Forget a request's positions from `length` on, including those that a running step computes."""
        self._pending[request_id] = _Pending(length, length)

    def remove(self, request_id: bytes) -> None:
        """Forget a request. An unknown id is no error."""
        self._pending.pop(request_id, None)


def _next_boundary(position: int) -> int:
    return (position // WINDOW_POSITIONS + 1) * WINDOW_POSITIONS
