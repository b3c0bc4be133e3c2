"""Routes read the chain again when a worker cannot be reached, keep a path that serves, and mend one that broke."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from inference.routing import NoPathError, Prefer
from node.client.errors import WorkersAway
from node.client.routes import POLL_S, UNUSED_S, Route, Routes
from node.client.worker_memory import WorkerMemory
from proto_specs.types.request import PathStage
from tests.unit.node.client.listings import ASK, MODEL, ListingChain, ScriptedProbes, make_report


class Fixture:
    def __init__(self) -> None:
        self.chain = ListingChain()
        self.source = ScriptedProbes()
        self.memory = WorkerMemory()
        self.routes = Routes(self.chain, self.memory, self.source)

    def fail(self, worker: bytes) -> set[bytes]:
        """As an attempt does."""
        self.memory.note_failed(worker, trio.current_time())
        return {worker}

    def report(self, worker: bytes, round_trip_s: float = 0.01, **changes: int) -> None:
        self.memory.note_report(worker, make_report(worker, **changes), round_trip_s, trio.current_time())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.routes.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def one() -> Fixture:
    return Fixture()


def name(route: Route) -> str:
    return "".join(entry.peer_id for entry in route.workers)


async def test_the_fastest_that_is_measured_within_a_tenth_the_cheapest(
    one: Fixture, autojump_clock: trio.abc.Clock
) -> None:
    a, b, c = one.chain.add("a", price=1), one.chain.add("b", price=5), one.chain.add("c", price=6)
    for worker, decode_us in ((a, 50_000), (b, 10_500), (c, 10_000)):
        one.report(worker, decode_us=decode_us)
    route = await one.routes.choose(ASK, ())
    assert name(route) == "b"
    assert route.load.predict_us(route.offers) == 20 * 10_500 + 20 * 100 + 10_000
    assert name(await one.routes.choose(dataclasses.replace(ASK, prefer=Prefer.CHEAP), ())) == "a"
    assert name(await one.routes.choose(dataclasses.replace(ASK, max_price=4), ())) == "a"


async def test_who_is_full_or_waited_for_is_slower(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    a, b = one.chain.add("a"), one.chain.add("b")
    one.report(b, decode_us=1_200)
    one.report(a, kv_free=30)
    assert name(await one.routes.choose(ASK, ())) == "b"
    one.report(a, waiting_rows=5_000)
    assert name(await one.routes.choose(ASK, ())) == "b"


async def test_who_is_full_is_taken_where_nobody_else_has_room(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    a, b = one.chain.add("a"), one.chain.add("b")
    one.report(a, kv_free=30)
    one.report(b, decode_us=500_000)
    assert name(await one.routes.choose(ASK, ())) == "b", "however slow"
    one.report(b, kv_free=30)
    assert name(await one.routes.choose(ASK, ())) == "a"


async def test_orders_fill_a_worker_before_its_next_report_tells(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    a, b = one.chain.add("a"), one.chain.add("b")
    one.report(a, kv_free=100)
    one.report(b, decode_us=500_000)
    taken = []
    for _ in range(3):
        route = await one.routes.choose(ASK, ())
        one.routes.watch(route)
        taken.append(name(route))
    assert taken == ["a", "a", "b"]
    one.report(a, kv_free=100)
    assert name(await one.routes.choose(ASK, ())) == "a"


async def test_a_failed_worker_is_read_again_at_once_and_taken_where_it_is_now(
    one: Fixture, autojump_clock: trio.abc.Clock
) -> None:
    worker = one.chain.add("a")
    await one.routes.choose(ASK, ())
    await trio.sleep(1)
    one.chain.move(worker, "/dns4/a/tcp/2")  # the block stands: nothing but the failure tells
    route = await one.routes.choose(ASK, one.fail(worker))
    assert route.peers[0].addresses == ("/dns4/a/tcp/2",)
    assert one.chain.lists == 2
    await trio.sleep(1)
    with pytest.raises(NoPathError):
        await one.routes.choose(ASK, one.fail(worker))  # it failed there too
    assert one.chain.lists == 3
    await trio.sleep(1)
    with pytest.raises(NoPathError):
        await one.routes.choose(ASK, {worker})
    assert one.chain.lists == 3, "nothing new failed"


async def test_a_failure_while_the_chain_is_away_leaves_what_is_known(
    one: Fixture, autojump_clock: trio.abc.Clock
) -> None:
    worker, _ = one.chain.add("a"), one.chain.add("b", price=2)
    await one.routes.choose(ASK, ())
    one.chain.is_away = True
    assert name(await one.routes.choose(ASK, one.fail(worker))) == "b"


async def test_a_new_block_with_another_address_forgives(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    worker, _ = one.chain.add("a"), one.chain.add("b", price=2)
    async with one.running():
        await one.routes.choose(ASK, ())
        await trio.sleep(1)
        one.fail(worker)
        assert name(await one.routes.choose(ASK, ())) == "b"
        one.chain.move(worker, "/dns4/a/tcp/2")
        one.chain.height += 1
        await trio.sleep(2 * POLL_S)
        assert not one.memory.is_avoided(worker, trio.current_time())


async def test_a_silent_worker_is_never_asked_while_another_serves_and_its_address_is_read_again(
    one: Fixture, autojump_clock: trio.abc.Clock
) -> None:
    worker, other = one.chain.add("a"), one.chain.add("b", price=9)
    one.source.dead = {"/dns4/a/tcp/1"}
    async with one.running():
        assert name(await one.routes.choose(ASK, ())) == "a", "nothing is known yet"
        await trio.sleep(2)
        assert name(await one.routes.choose(ASK, ())) == "b"
        del one.chain.workers[other]
        one.chain.height += 1
        await trio.sleep(2 * POLL_S)
        with pytest.raises(WorkersAway, match=worker.hex()[:12]):
            one.routes.require_workers()
        assert name(await one.routes.choose(ASK, ())) == "a", "nobody else serves"
        one.chain.move(worker, "/dns4/a/tcp/2")  # without a block: it is found by probing alone
        await trio.sleep(30)
        assert not one.memory.is_avoided(worker, trio.current_time())
        one.routes.require_workers()


async def test_of_failed_workers_as_few_as_possible_are_taken(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    first, _, whole = one.chain.add("a", 0, 3), one.chain.add("b", 3, 6, 9), one.chain.add("c", 3, 6)
    await one.routes.choose(ASK, ())
    one.fail(first)
    one.fail(whole)
    assert name(await one.routes.choose(ASK, ())) == "ab"


async def test_probing_stops_with_the_last_request(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    one.chain.add("a")
    async with one.running():
        await one.routes.choose(ASK, ())
        await trio.sleep(UNUSED_S + 1)
        one.chain.height += 1
        await trio.sleep(5)
        one.source.asked.clear()
        await trio.sleep(60)
    assert not one.source.asked


async def test_a_path_is_kept_until_another_is_clearly_better(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    a, b = one.chain.add("a"), one.chain.add("b")
    one.report(a, decode_us=10_000)
    one.report(b, decode_us=10_400)
    assert name(await one.routes.choose(ASK, ())) == "a"
    for _ in range(50):
        one.report(b, decode_us=9_500)
    assert name(await one.routes.choose(ASK, ())) == "a"
    for _ in range(50):
        one.report(b, decode_us=8_500)
    assert name(await one.routes.choose(ASK, ())) == "b"
    assert name(await one.routes.choose(ASK, {b})) == "a"
    assert MODEL in {model for model, _, _ in one.routes._taken}  # noqa: SLF001


async def test_a_cheaper_worker_is_taken_when_it_comes(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    a = one.chain.add("a", price=5)
    assert name(await one.routes.choose(ASK, ())) == "a"
    one.chain.add("b", price=4)
    one.routes.forget(MODEL)
    assert name(await one.routes.choose(ASK, ())) == "b"
    one.chain.workers[a] = dataclasses.replace(one.chain.workers[a], prefill_price=3, decode_price=3)
    one.routes.forget(MODEL)
    assert name(await one.routes.choose(dataclasses.replace(ASK, prefer=Prefer.CHEAP), ())) == "a"


def stage(route: Route, at: int) -> PathStage:
    return route.path[at]


async def test_a_continuation_keeps_who_lives(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    for text, start, end in (("a", 0, 2), ("b", 2, 4), ("c", 4, 6)):
        one.chain.add(text, start, end)
    route = await one.routes.choose(ASK, ())
    assert name(route) == "abc"
    workers = [entry.worker for entry in route.workers]
    one.chain.add("whole", price=0)  # better than any, and not what keeps the rows
    one.chain.add("s", 2, 3)
    one.chain.add("t", 3, 4)
    one.chain.add("u", 0, 4)
    one.chain.add("v", 3, 5)
    one.routes.forget(MODEL)
    lost = {workers[1]}
    mended = await one.routes.choose_continuation(ASK, route.path, lost, ())
    assert name(mended) == "astc", "a lost range goes to several"
    mended = await one.routes.choose_continuation(ASK, route.path, {workers[0], workers[1]}, ())
    assert name(mended) == "uc", "neighbouring ones go to one"
    assert name(await one.routes.choose(ASK, ())) == "whole"


async def test_a_continuation_takes_no_failed_worker_while_another_fits_and_keeps_a_silent_survivor(
    one: Fixture, autojump_clock: trio.abc.Clock
) -> None:
    a, b, c = one.chain.add("a", 0, 3), one.chain.add("b", 3, 6, 0), one.chain.add("c", 3, 6, 5)
    d = one.chain.add("d", 3, 6)
    route = await one.routes.choose(ASK, ())
    assert name(route) == "ab"
    one.memory.note_silent(a, trio.current_time())
    one.fail(d)
    assert name(await one.routes.choose_continuation(ASK, route.path, {b}, ())) == "ac"
    one.fail(c)
    assert name(await one.routes.choose_continuation(ASK, route.path, {b}, {c})) == "ad", "nobody else serves"


async def test_a_continuation_takes_any_path_when_nobody_fits(one: Fixture, autojump_clock: trio.abc.Clock) -> None:
    b = one.chain.add("b", 3, 6)
    one.chain.add("a", 0, 3)
    route = await one.routes.choose(ASK, ())
    one.chain.add("whole", price=9)
    one.routes.forget(MODEL)
    assert name(await one.routes.choose_continuation(ASK, route.path, {b}, ())) == "whole"
    one.chain.workers = {key: entry for key, entry in one.chain.workers.items() if entry.peer_id != "whole"}
    one.routes.forget(MODEL)
    with pytest.raises(NoPathError):
        await one.routes.choose_continuation(ASK, route.path, {b}, ())


async def test_a_survivor_that_the_chain_no_longer_lists_is_lost_too(
    one: Fixture, autojump_clock: trio.abc.Clock
) -> None:
    a, b = one.chain.add("a", 0, 3), one.chain.add("b", 3, 6)
    route = await one.routes.choose(ASK, ())
    del one.chain.workers[a]
    one.chain.add("c", 0, 3)
    one.chain.add("d", 3, 6)
    one.routes.forget(MODEL)
    assert name(await one.routes.choose_continuation(ASK, route.path, {b}, ())) == "cd"
