"""Rates of keys: requests and tokens a minute, each key with its own."""

from __future__ import annotations

from collections.abc import Callable

from node.gateway.accounts.keys import ApiKey
from node.gateway.errors import refuse_rate
from node.machine.rate import RateLimit

_MINUTE_S = 60.0


class KeyRates:
    """Token buckets for each rate that keys have. A request for more tokens than a minute has waits for a full one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limits: dict[int, RateLimit] = {}

    def take_request(self, key: ApiKey) -> None:
        """Raises ApiRefusal 429 with the wait."""
        self._take(key, key.limits.requests_a_minute, 1, "requests a minute")

    def take_tokens(self, key: ApiKey, tokens: int) -> None:
        """`tokens` of prompt and answer, at most. Raises ApiRefusal 429 with the wait."""
        self._take(key, key.limits.tokens_a_minute, tokens, "tokens a minute")

    def _take(self, key: ApiKey, a_minute: int | None, count: int, what: str) -> None:
        if a_minute is None:
            return
        limit = self._limits.setdefault(a_minute, RateLimit(a_minute / _MINUTE_S, a_minute))
        wait_s = limit.take_at_once(f"{key.number} {what}", min(count, a_minute), self._clock())
        if wait_s > 0:
            raise refuse_rate(f"{a_minute} {what}", wait_s)
