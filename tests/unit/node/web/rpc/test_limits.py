"""What one client may take: calls by a bucket of its own, heads while it keeps up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

import proto_specs
from node.local_api.methods.all import METHODS
from node.local_api.methods.openrpc import make_document
from node.local_api.wire import access
from node.local_api.wire.access import BODY, PAGE, READ, UNSAFE_METHODS, WALK
from node.local_api.wire.errors import LIMIT_EXCEEDED, NOT_ALLOWED, ApiError
from node.local_api.wire.subscriptions import SUBSCRIPTION_METHODS
from node.web.rpc import limits
from node.web.rpc.limits import (
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


def test_a_dear_call_counts_as_several_and_a_refused_one_as_none() -> None:
    clock = Clock()
    limiter = RateLimiter(10, clock)
    limiter.spend("a", 15)
    with pytest.raises(ApiError) as refused:
        limiter.spend("a", 6)
    assert refused.value.code == LIMIT_EXCEEDED
    assert "counts as 6" in str(refused.value)
    assert refused.value.data == {"wait_ms": 100}
    assert spend(limiter, "a", 10) == 5
    clock.now_s += 0.75
    limiter.spend("a", 6)
    assert spend(limiter, "a", 9) == 1


def test_what_costs_more_than_a_burst_takes_all_of_one() -> None:
    """Else it could never be called where the rate is low."""
    clock = Clock()
    limiter = RateLimiter(2, clock)
    limiter.spend("a", 50)
    clock.now_s += BURST_S - 0.5
    with pytest.raises(ApiError):
        limiter.spend("a", 50)
    clock.now_s += 0.5
    limiter.spend("a", 50)
    assert spend(limiter, "a", 1) == 0


async def test_a_batch_pays_the_sum_and_a_list_of_things_for_each() -> None:
    caller = Caller("192.168.0.7", is_operator=False)

    async def call_many(calls: Sequence[Any]) -> list[Any]:
        return [name for name, _ in calls]

    async def answer(*calls: Any) -> list[Any]:
        limiter = RateLimiter(50, Clock())
        found = await dispatch_limited(calls, limiter, caller, call_many)
        return ["refused" if isinstance(one, ApiError) else one for one in found]

    block, name, proof = ("chain_getBlock", [1]), ("system_name", []), ("state_getReadProof", ["0x00"])
    assert BURST_S * 50 == 2 * BODY
    assert await answer(block, block, name) == ["chain_getBlock"] * 2 + ["refused"]
    assert await answer(name, block, block, name) == ["system_name", "chain_getBlock", "refused", "system_name"]
    assert await answer(*[proof] * 21) == ["state_getReadProof"] * (2 * BODY // WALK) + ["refused"]
    for many in ([list(range(99))], {"block": list(range(99))}):
        hashes = ("chain_getBlockHash", many)
        assert await answer(hashes, name, name) == ["chain_getBlockHash", "system_name", "refused"]


def test_costs_are_of_methods_and_what_may_take_long_is_not_cheap() -> None:
    known = {*METHODS, *SUBSCRIPTION_METHODS}
    assert set(access._COSTS) <= known  # noqa: SLF001
    assert {access.get_cost(one) for one in known} == {READ, WALK, PAGE, BODY}
    slow = {name for name, found in METHODS.items() if found.is_bulky}
    assert {name for name in slow if access.get_cost(name) == READ} == {"state_queryStorageAt"}, "it counts by the key"
    documented = {one["name"]: one["x-cost"] for one in make_document()["methods"]}
    assert documented == {name: access.get_cost(name) for name in METHODS}
    page = (Path(proto_specs.__file__).parent / "rpc.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (5|20|50) \| (.*) \|$", page, re.MULTILINE))
    written = {name: int(cost) for cost, row in rows.items() for name in re.findall(r"`([\w.]+)`", row)}
    assert written == {name: access.get_cost(name) for name in known if access.get_cost(name) != READ}
    for dear in ("state_getReadProof", "state_getKeysPaged", "rpc.discover"):
        assert documented[dear] > documented["system_health"]


def test_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENTS_REMEMBERED_MAX", 3)
    limiter = RateLimiter(1, Clock())
    for client in ("a", "b", "c"):
        assert spend(limiter, client, 9) == BURST_S
    assert spend(limiter, "a", 1) == 0, "remembered"
    assert spend(limiter, "d", 1) == 1
    assert spend(limiter, "b", 1) == 1, "forgotten, as the one that called least recently"


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
