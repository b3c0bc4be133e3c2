"""When to probe a worker, and when its silence is worth a report. Pure: told heights, times and outcomes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

FAILURES_MIN = 3
SILENCE_S_MIN = 10.0
"""A worker is reported after so many failed probes in a row, the first of them so long ago."""
_PERIODS_PER_WINDOW = 6
_HEIGHT_BYTES = 8


@dataclass(slots=True)
class _Silence:
    probed_period: int = -1
    failures: int = 0
    since_s: float = 0.0


class SilenceBook:
    """Of one verifier. Times are of one clock that never goes back."""

    def __init__(self, account: bytes) -> None:
        self._account = account
        self._seen: dict[bytes, _Silence] = {}

    def take_due(self, workers: list[bytes], height: int, period_blocks: int) -> list[bytes]:
        """The workers to probe now, each once a period. Those that are not listed any more are forgotten."""
        self._seen = {one: self._seen.get(one, _Silence()) for one in workers}
        period, due = height // period_blocks, []
        for worker, seen in self._seen.items():
            if seen.probed_period < period and height % period_blocks >= self._compute_slot(
                worker, period, period_blocks
            ):
                seen.probed_period = period
                due.append(worker)
        return due

    def note_answer(self, worker: bytes) -> None:
        """It is there."""
        if worker in self._seen:
            self._seen[worker].failures = 0

    def note_failure(self, worker: bytes, now_s: float) -> bool:
        """It did not answer. Whether it has been silent for long enough to say so on chain."""
        seen = self._seen.get(worker)
        if seen is None:
            return False
        if not seen.failures:
            seen.since_s = now_s
        seen.failures += 1
        return seen.failures >= FAILURES_MIN and now_s - seen.since_s >= SILENCE_S_MIN

    def _compute_slot(self, worker: bytes, period: int, period_blocks: int) -> int:
        """The block of a period in which this verifier asks a worker: another one each period, so loads spread."""
        drawn = hashlib.blake2b(period.to_bytes(_HEIGHT_BYTES, "big") + worker + self._account, digest_size=8).digest()
        return int.from_bytes(drawn, "big") % period_blocks


def compute_period(absence_blocks: int) -> int:
    """Blocks between two probes of a worker: reports of one absence, some periods apart, meet within their window."""
    return max(1, absence_blocks // _PERIODS_PER_WINDOW)
