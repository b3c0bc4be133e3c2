"""Token buckets, one for each key: tokens to take now, and the wait for a key that took too many. Knows no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TRACKED_MAX = 4_096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_s: float


class RateLimit:
    """`per_s` tokens a second for each key, at most `burst` at once. Remembers the `keys_max` keys used last."""

    def __init__(self, per_s: float, burst: float, keys_max: int = TRACKED_MAX) -> None:
        self._per_s = per_s
        self._burst = burst
        self._keys_max = keys_max
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str, tokens: float, now_s: float) -> float:
        """Take tokens, on credit when there are too few; returns the seconds until it is paid back, usually 0."""
        bucket = self._fill(key, now_s)
        bucket.tokens -= tokens
        return max(0.0, -bucket.tokens / self._per_s)

    def take_within(self, key: str, tokens: float, now_s: float, wait_s_max: float) -> float | None:
        """As `take`, but take nothing and return None when the wait would be longer than `wait_s_max`."""
        bucket = self._fill(key, now_s)
        wait_s = self._compute_wait(bucket, tokens)
        if wait_s > wait_s_max:
            return None
        bucket.tokens -= tokens
        return wait_s

    def take_at_once(self, key: str, tokens: float, now_s: float) -> float:
        """Take the tokens and return 0 when there are enough; else take none and return the seconds to wait."""
        bucket = self._fill(key, now_s)
        wait_s = self._compute_wait(bucket, tokens)
        if wait_s == 0.0:
            bucket.tokens -= tokens
        return wait_s

    def _compute_wait(self, bucket: _Bucket, tokens: float) -> float:
        return max(0.0, (tokens - bucket.tokens) / self._per_s)

    def _fill(self, key: str, now_s: float) -> _Bucket:
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now_s)
        elapsed_s = max(0.0, now_s - bucket.filled_at_s)
        bucket.tokens = min(self._burst, bucket.tokens + elapsed_s * self._per_s)
        bucket.filled_at_s = now_s
        self._buckets[key] = bucket  # last used last, so that the first is the key to forget
        if len(self._buckets) > self._keys_max:
            del self._buckets[next(iter(self._buckets))]
        return bucket

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the buckets of these keys."""
        for key in keys:
            self._buckets.pop(key, None)
