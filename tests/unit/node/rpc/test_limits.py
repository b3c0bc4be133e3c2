"""What one client may take: calls by a bucket of its own, heads while it keeps up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request

from node.api.access import UNSAFE_METHODS
from node.api.errors import LIMIT_EXCEEDED, NOT_ALLOWED, ApiError
from node.rpc import limits
from node.rpc.limits import (
    BACKLOG_MAX,
    BURST_S,
    Caller,
    Heads,
    RateLimiter,
    dispatch_limited,
)

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
    monkeypatch.setattr(limits, "CLIENTS_REMEMBERED_MAX", 3)
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


@pytest.mark.parametrize(
    ("address", "headers", "is_operator"),
    [
        ("127.0.0.1", {}, True),
        ("127.8.9.10", {}, True),
        ("::1", {}, True),
        ("::ffff:127.0.0.1", {}, True),
        ("192.168.0.7", {}, False),
        ("::ffff:192.168.0.7", {}, False),
        ("", {}, False),
        ("localhost.example.com", {}, False),
        ("127.0.0.1", {"Origin": "http://page.example"}, False),
        ("127.0.0.1", {"Origin": "null"}, False),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, False),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}, False),
    ],
)
async def test_only_the_operator_calls_what_changes_the_node(
    address: str, headers: dict[str, str], is_operator: bool
) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    caller = Caller.read(Request({"type": "http", "client": (address, 1), "headers": raw}))
    assert caller.is_operator is is_operator
    called: list[str] = []

    async def call_many(calls: Sequence[Any]) -> list[Any]:
        called.extend(name for name, _ in calls)
        return [True] * len(calls)

    (unsafe,) = UNSAFE_METHODS
    calls: list[Any] = [("system_name", []), (unsafe, ["0x00"]), ("system_name", [])]
    answers = await dispatch_limited(calls, RateLimiter(CALLS_PER_S), caller, call_many)
    assert answers[0] is answers[2] is True
    assert called.count(unsafe) == is_operator
    assert answers[1] is True if is_operator else answers[1].code == NOT_ALLOWED
