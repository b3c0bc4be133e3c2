"""A token bucket per peer: how long a peer that took too much has to wait. Knows no clock of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TRACKED_MAX = 4_096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_s: float


class RateLimit:
    """`per_s` tokens a second for each key, `burst` at once. Keys used last are kept, up to 4,096."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str, tokens: float, now_s: float) -> float:
        """Take tokens, on credit where there are too few; the seconds until the credit is paid back, 0 mostly."""
        bucket = self._fill(key, now_s)
        bucket.tokens -= tokens
        return max(0.0, -bucket.tokens / self._per_s)

    def take_within(self, key: str, tokens: float, now_s: float, wait_s_max: float) -> float | None:
        """As `take`, but nothing is taken, and None returned, where the wait would be longer than that."""
        bucket = self._fill(key, now_s)
        wait_s = max(0.0, (tokens - bucket.tokens) / self._per_s)
        if wait_s > wait_s_max:
            return None
        bucket.tokens -= tokens
        return wait_s

    def _fill(self, key: str, now_s: float) -> _Bucket:
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now_s)
        elapsed_s = max(0.0, now_s - bucket.filled_at_s)
        bucket.tokens = min(self._burst, bucket.tokens + elapsed_s * self._per_s)
        bucket.filled_at_s = now_s
        self._buckets[key] = bucket
        if len(self._buckets) > TRACKED_MAX:
            del self._buckets[next(iter(self._buckets))]
        return bucket

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the books of these."""
        for key in keys:
            self._buckets.pop(key, None)
