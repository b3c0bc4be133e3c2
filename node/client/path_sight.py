"""What a request shows of the workers on its path. Pure over a clock that its caller reads.

Only the time of the whole path is seen. What it is off from the prediction goes to the parts: a delay to those of whom
least is known and who hold most layers, so that a worker that reports less than it takes is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.routing import LayerOffer, PathLoad
from node.client.worker_memory import WorkerMemory
from proto_specs.limits import WINDOW_POSITIONS

PAUSES_MIN = 8
"""Fewer pauses between tokens tell of a moment, not of a path."""
ROWS_MIN = 16
"""A shorter prompt tells of the calls that it takes, not of its rows."""


@dataclass(frozen=True, slots=True)
class TimePart:
    """A part of the time that was predicted: so many microseconds, over `span` layers, measured `samples` times."""

    expected_us: float
    span: int
    samples: float


def attribute(parts: Sequence[TimePart], seen_us: float) -> list[float]:
    """What each part took, as far as their sum tells."""
    error_us = seen_us - sum(one.expected_us for one in parts)
    spans = sum(one.span for one in parts)
    weights = []
    for one in parts:
        size_us = one.expected_us if error_us < 0 or not spans else max(one.expected_us, seen_us * one.span / spans)
        weights.append(size_us / (1.0 + one.samples))
    total = sum(weights)
    if total <= 0:
        return [one.expected_us for one in parts]
    shared = zip(parts, weights, strict=True)
    return [max(0.0, one.expected_us + error_us * weight / total) for one, weight in shared]


class PathSight:
    """One order over one path. `load` and `path` are what its prediction was made of."""

    def __init__(self, memory: WorkerMemory, path: Sequence[LayerOffer], load: PathLoad, began_s: float) -> None:
        self._memory = memory
        self._path = path
        self._load = load
        self._from_s = began_s
        self._pauses = -1
        """Pauses between tokens since `_from_s`; -1 before the first token."""

    def note_accepted(self, now_s: float) -> None:
        """Every stage takes part: the prompt is computed from now on."""
        if self._pauses < 0:
            self._from_s = now_s

    def note_token(self, now_s: float) -> None:
        """A token came."""
        if self._pauses < 0:
            self._learn_prefill(now_s)
        self._pauses += 1
        if self._pauses == 0:
            self._from_s = now_s
        elif self._pauses == WINDOW_POSITIONS:
            self._learn_decode(now_s)

    def note_completed(self, now_s: float) -> None:
        """All is signed."""
        if self._pauses >= PAUSES_MIN:
            self._learn_decode(now_s)
        for one in self._path:
            self._memory.note_completed(one.worker, now_s)

    def _learn_decode(self, now_s: float) -> None:
        seen_us = (now_s - self._from_s) * 1e6 / self._pauses
        self._from_s, self._pauses = now_s, 0
        pairs = [(one.worker, then.worker) for one, then in zip(self._path, self._follow(), strict=False)]
        parts = [
            TimePart(one.decode_us, one.end - one.start, self._memory.get_samples(one.worker, now_s)[0])
            for one in self._path
        ]
        for pair, hop_us in zip(pairs, self._load.list_hops_us(self._path), strict=True):
            parts.append(TimePart(hop_us, 0, self._memory.count_hop_samples(*pair)))
        shares = attribute(parts, seen_us)
        for one, share_us in zip(self._path, shares, strict=False):
            self._memory.note_paces(one.worker, now_s, share_us, None)
        for pair, share_us in zip(pairs, shares[len(self._path) :], strict=True):
            self._memory.note_hop(*pair, share_us)

    def _learn_prefill(self, now_s: float) -> None:
        rows, chunk = self._load.prompt_tokens, self._load.chunk_rows
        if rows < ROWS_MIN:
            return
        slowest = max(self._path, key=lambda one: one.prefill_us)
        counts = [rows if one is slowest else chunk for one in self._path]
        parts = [
            TimePart(one.prefill_us * count, one.end - one.start, self._memory.get_samples(one.worker, now_s)[1])
            for one, count in zip(self._path, counts, strict=True)
        ]
        waited_us = sum(self._load.list_hops_us(self._path)) + sum(one.decode_us for one in self._path)
        seen_us = max(0.0, (now_s - self._from_s) * 1e6 - waited_us)
        for one, count, share_us in zip(self._path, counts, attribute(parts, seen_us), strict=True):
            self._memory.note_paces(one.worker, now_s, None, share_us / count)

    def _follow(self) -> Sequence[LayerOffer]:
        return (*self._path[1:], self._path[0]) if len(self._path) > 1 else ()
