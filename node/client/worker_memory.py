"""What a client has seen of each worker: how fast it was reached, and whether it failed lately. Pure."""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF_S_MIN = 5.0
BACKOFF_S_MAX = 300.0
FORGET_S = 900.0
"""After this time without news a worker is like one that was never seen."""
WORKERS_MAX = 4096
UNKNOWN_MS = 100
"""What a worker that was never reached is taken for, so that it is tried before slow ones."""
RANK_STEP_MS = 50
"""Times that differ by less are equal: the choice should not follow noise."""
FAILURE_MS = 1_000
_WEIGHT = 0.3


@dataclass(slots=True)
class _Seen:
    at_s: float
    reach_ms: float | None = None
    failures: int = 0
    avoid_until_s: float = 0.0


class WorkerMemory:
    """Times are of one clock that never goes back, such as trio's."""

    def __init__(self) -> None:
        self._seen: dict[bytes, _Seen] = {}

    def note_reached(self, worker: bytes, seconds: float, now_s: float) -> None:
        """A worker took a request after `seconds`: its failures are forgotten."""
        seen = self._touch(worker, now_s)
        seen.failures, seen.avoid_until_s = 0, 0.0
        sample_ms = seconds * 1_000
        seen.reach_ms = sample_ms if seen.reach_ms is None else seen.reach_ms + _WEIGHT * (sample_ms - seen.reach_ms)

    def note_failed(self, worker: bytes, now_s: float) -> None:
        """A worker could not be reached, or did not serve: each failure in a row doubles how long it is left out."""
        seen = self._touch(worker, now_s)
        seen.failures += 1
        wait_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(seen.failures - 1, 16))
        seen.avoid_until_s = now_s + wait_s

    def is_avoided(self, worker: bytes, now_s: float) -> bool:
        """Whether to leave it out as long as others serve its layers."""
        seen = self._get(worker, now_s)
        return seen is not None and now_s < seen.avoid_until_s

    def get_rank(self, worker: bytes, now_s: float) -> int:
        """Lower is better, among workers of one price."""
        seen = self._get(worker, now_s)
        if seen is None:
            return UNKNOWN_MS // RANK_STEP_MS
        reach_ms = UNKNOWN_MS if seen.reach_ms is None else seen.reach_ms
        return int(reach_ms + FAILURE_MS * seen.failures) // RANK_STEP_MS

    def _get(self, worker: bytes, now_s: float) -> _Seen | None:
        seen = self._seen.get(worker)
        return None if seen is None or now_s - seen.at_s > FORGET_S else seen

    def _touch(self, worker: bytes, now_s: float) -> _Seen:
        """What is known of it, made the latest; the one of whom nothing was heard for longest makes room."""
        seen = self._get(worker, now_s) or _Seen(now_s)
        self._seen.pop(worker, None)
        self._seen[worker] = seen
        seen.at_s = now_s
        if len(self._seen) > WORKERS_MAX:
            del self._seen[next(iter(self._seen))]
        return seen
