"""What one client may take: calls by a bucket of its own, heads while it keeps up."""

from __future__ import annotations

import pytest

from node.api.errors import LIMIT_EXCEEDED, ApiError
from node.rpc import app
from node.rpc.app import BACKLOG_MAX, BURST_S, Heads, RateLimiter

CALLS_PER_S = 5_000


class Clock:
    """Seconds, moved by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def spend(limiter: RateLimiter, client: str, calls: int) -> int:
    """How many of so many calls are let through."""
    for passed in range(calls):
        try:
            limiter.spend(client)
        except ApiError as error:
            if error.code != LIMIT_EXCEEDED:
                raise
            return passed
    return calls


def test_a_burst_then_the_rate_each_client_for_itself() -> None:
    clock = Clock()
    limiter = RateLimiter(CALLS_PER_S, clock)
    assert spend(limiter, "a", 2 * BURST_S * CALLS_PER_S) == BURST_S * CALLS_PER_S
    assert spend(limiter, "a", 1) == 0
    assert spend(limiter, "b", 1) == 1
    clock.now_s += 1.0
    assert spend(limiter, "a", 2 * BURST_S * CALLS_PER_S) == CALLS_PER_S
    clock.now_s += 3_600.0
    assert spend(limiter, "a", 2 * BURST_S * CALLS_PER_S) == BURST_S * CALLS_PER_S


def test_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "CLIENTS_REMEMBERED_MAX", 3)
    limiter = RateLimiter(CALLS_PER_S, Clock())
    for index in range(10):
        limiter.spend(str(index))
    assert len(limiter._buckets) <= 3


async def test_heads_reach_everybody_and_who_lags_is_told() -> None:
    heads = Heads()
    with heads.subscribe() as slow, heads.subscribe() as quick:
        for height in range(BACKLOG_MAX):
            heads.publish({"height": height})
            assert quick.get_nowait() == {"height": height}
        heads.publish({"height": BACKLOG_MAX})
        heads.publish({"height": BACKLOG_MAX + 1})
        assert quick.get_nowait() == {"height": BACKLOG_MAX}
        heard = [slow.get_nowait() for _ in range(slow.qsize())]
        assert heard[-1] is None
        assert heard[0] == {"height": 1}
