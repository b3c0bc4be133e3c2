"""Continuous batching as a pure state machine: `schedule()` returns the next step, `update()` reports that it ran.

A step is every decode that is ready, then at most one chunk of one prompt: a decode never waits for more than a chunk.
A decode is one position, or one with drafted ones behind it, which are taken back where the next positions say so.
Chunks end at window boundaries or with what is there, so that every finished window can be hashed and signed at once,
and are about as long as the caller says. Prompts take turns in order of arrival. Knows no tensors: the caller keeps the
rows and hands them to the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from inference.errors import EngineError
from proto_specs.limits import WINDOW_POSITIONS

CHUNK_ROWS_MAX = 256
CALL_COST_ROWS = 18
"""Rows that a call costs before its first one, measured: 15 layers of 576 took 11 ms and 0.63 ms a row."""

TAIL_ROWS_MAX = CALL_COST_ROWS
"""So few rows behind a chunk's end go along with it: a call of their own would cost more than they do."""


@dataclass(frozen=True)
class Work:
    """Positions [start, start + count) of one request. `is_replay`: they were answered before."""

    request_id: bytes
    start: int
    count: int
    is_replay: bool = False


@dataclass(frozen=True)
class EngineStep:
    """The work of one engine pass; empty when no position is ready."""

    works: tuple[Work, ...]


@dataclass
class _Pending:
    """Positions [start, end) have arrived and are not computed; `running` of them are in a step now.

    Those before `answered` were computed before their memory was taken.
    """

    start: int
    end: int
    running: int = 0
    answered: int = 0
    drafted: int = 0
    """So many of the last positions are drafted: the next ones may begin at any of them."""

    @property
    def is_idle(self) -> bool:
        """Whether every position was computed, once."""
        return not self.running and max(self.start, self.answered) == self.end


class Scheduler:
    """Decides which ready positions run next. `decodes_max` bounds the rows of a step's decodes."""

    def __init__(self, decodes_max: int = 64) -> None:
        self._decodes_max = decodes_max
        self._pending: dict[bytes, _Pending] = {}  # insertion order is the order of turns

    @property
    def waiting_rows(self) -> int:
        """Positions of all requests that arrived and are not computed, those of a running step included."""
        return sum(pending.end - pending.start for pending in self._pending.values())

    def enqueue(self, request_id: bytes, start: int, count: int, drafted: int = 0) -> bool:
        """Positions [start, start + count) of a request can run, the last `drafted` of which may not stand.

        Where those before ended with drafted ones, `start` may be any of these: from there on they did not stand, and
        are forgotten. Returns whether any were. Raises EngineError for a gap, for an overlap with what stands, and for
        drafts before or behind which anything waits.
        """
        if start < 0 or not 0 <= drafted < count:
            raise EngineError(f"cannot enqueue {count} positions from {start}, {drafted} of them drafted")
        pending = self._pending.setdefault(request_id, _Pending(start, start))
        name = request_id.hex()[:16]
        if not pending.end - pending.drafted <= start <= pending.end:
            raise EngineError(f"position {start} does not follow {pending.end} of request {name}")
        if (drafted or pending.drafted) and not pending.is_idle:
            raise EngineError(f"position {start} of request {name} came before the answer that a draft waits for")
        is_rollback = start < pending.end
        if is_rollback:
            pending.start, pending.answered = min(pending.start, start), min(pending.answered, start)
        pending.end, pending.drafted = start + count, drafted
        return is_rollback

    def schedule(
        self,
        has_room: Callable[[Work], bool] = lambda work: True,
        get_chunk_rows: Callable[[bytes], int] = lambda request_id: WINDOW_POSITIONS,
    ) -> EngineStep:
        """The next step, of works for which there is room, asked in the order of the step.

        A request's chunk has at most `get_chunk_rows` rows, a multiple of a window's. Its positions are not scheduled
        again before `update`. What has no room keeps its turn and holds up nobody.
        """
        decodes: list[Work] = []
        chunks: list[Work] = []
        for request_id, pending in self._pending.items():
            if pending.running or pending.start == pending.end or pending.end == pending.answered:
                continue
            is_replay = pending.start < pending.answered
            there = pending.answered if is_replay else pending.end
            end = min(there, _next_boundary(pending.start, get_chunk_rows(request_id)))
            if there - end <= TAIL_ROWS_MAX and there - pending.start <= CHUNK_ROWS_MAX:
                end = there
            work = Work(request_id, pending.start, end - pending.start, is_replay)
            is_decode = pending.end - pending.start == 1 or (pending.drafted and not is_replay)
            (decodes if is_decode else chunks).append(work)
        works: list[Work] = []
        rows_free = self._decodes_max
        for work in decodes:
            if (work.count <= rows_free or not works) and has_room(work):
                works.append(work)
                rows_free -= work.count
        works += islice(filter(has_room, chunks), 1)
        for work in works:
            self._pending[work.request_id].running = work.count
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

    def restart(self, request_id: bytes) -> None:
        """A request lost its memory: its positions run again from 0, those that were answered as a replay."""
        pending = self._pending.get(request_id)
        if pending is None:  # none of its positions ever came
            return
        assert not pending.running, "only a request that waits loses its memory"
        pending.answered = max(pending.answered, pending.start)
        pending.start = 0

    def resume(self, request_id: bytes, held: int, answered: int) -> None:
        """Positions before `answered` were computed; those from `held` on are computed again before what follows."""
        self._pending[request_id] = _Pending(held, answered, answered=answered)

    def remove(self, request_id: bytes) -> None:
        """Forget a request. An unknown id is no error."""
        self._pending.pop(request_id, None)


def compute_chunk_rows(prompt_tokens: int, stages: int) -> int:
    """Rows of a chunk with which a prompt is through a path of equal stages first.

    Of a prompt of N rows in chunks of c the last stage sees the last row after (N / c + stages - 1) chunks, each of
    which costs as much as c + k rows: c = sqrt(k N / (stages - 1)).
    """
    if stages < 2:
        return CHUNK_ROWS_MAX
    windows = round(math.sqrt(CALL_COST_ROWS * prompt_tokens / (stages - 1)) / WINDOW_POSITIONS)
    return min(max(windows, 1) * WINDOW_POSITIONS, CHUNK_ROWS_MAX)


def _next_boundary(position: int, chunk_rows: int) -> int:
    return position // WINDOW_POSITIONS * WINDOW_POSITIONS + chunk_rows
