"""How long this shard takes, as moving averages of the steps it ran: for a lone row, and for a row among many. Pure."""

from __future__ import annotations

from collections.abc import Sequence

CHUNK_ROWS_MIN = 16
"""So many rows of one request tell what a row among many costs; fewer are mostly the cost of the call."""
_WEIGHT = 0.2
_US_MAX = 2**32 - 1


class PaceMeter:
    """Steps of several requests tell of neither and are left out."""

    def __init__(self) -> None:
        self._decode_us: float | None = None
        self._prefill_us: float | None = None

    @property
    def decode_us(self) -> int:
        """Microseconds of a step with one row; 0 before the first."""
        return _round(self._decode_us)

    @property
    def prefill_us(self) -> int:
        """Microseconds of one row of a chunk; 0 before the first."""
        return _round(self._prefill_us)

    def note(self, counts: Sequence[int], seconds: float) -> None:
        """A step ran: with so many rows of each of its requests, in `seconds`."""
        if len(counts) != 1:
            return
        per_row_us = seconds * 1e6 / counts[0]
        if counts[0] == 1:
            self._decode_us = _average(self._decode_us, per_row_us)
        elif counts[0] >= CHUNK_ROWS_MIN:
            self._prefill_us = _average(self._prefill_us, per_row_us)


def _average(before: float | None, sample: float) -> float:
    return sample if before is None else before + _WEIGHT * (sample - before)


def _round(us: float | None) -> int:
    return 0 if us is None else min(max(round(us), 1), _US_MAX)
