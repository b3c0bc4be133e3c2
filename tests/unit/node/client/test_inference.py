"""Requests over a scripted network: another path before the first token and after it, and what is owed."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from inference.routing import Prefer
from node.client.answer import Resolution
from node.client.attempt import PATHS_MAX
from node.client.errors import InferenceRefused, NobodyServes
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.wire import FailureCode, FinishReason
from tests.unit.node.client.paid_world import (
    ASK,
    LAYERS,
    UNREACHABLE,
    Script,
    World,
    open_world,
)


@pytest.fixture
async def world(tmp_path: Path, autojump_clock) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def test_an_answer_tells_its_path_and_costs(world: World, autojump_clock) -> None:
    world.chain.add("a", 0, 3, 2)
    world.chain.add("b", 3, 6, 3)
    async with world.inference.ask(ASK) as answer:
        assert [one.worker[:1] for one in answer.path] == [b"a", b"b"]
        assert answer.cost_nmyl == 0
        assert answer.cost_max_nmyl == (3 * 2 + 3 * 3) * (3 + 4)
        items = [one async for one in answer]
    assert [one.token for one in items] == [7, 8, 9, 10]
    assert [one.finish for one in items] == [*[FinishReason.NONE] * 3, FinishReason.LENGTH]
    assert answer.cost_nmyl == answer.cost_max_nmyl
    assert answer.session in world.bank.sessions
    assert world.network.cancelled == 0
    times = answer.times
    assert times.routed_s <= times.connected_s <= times.ordered_s <= times.accepted_s <= times.first_token_s


async def test_the_second_request_waits_for_no_chain(world: World, autojump_clock) -> None:
    world.chain.add("a")
    await world.ask()
    await trio.sleep(60)
    _, answer = await world.ask()
    assert answer.times.connected_s == pytest.approx(0.01, abs=0.001), "neither workers nor session are read"
    assert len(world.bank.sessions) == 1


async def test_workers_are_read_once_a_block_and_only_while_used(world: World, autojump_clock) -> None:
    world.chain.add("a")
    await world.ask()
    assert world.chain.lists == 1
    await trio.sleep(10)
    assert world.chain.lists == 1
    world.chain.height += 1
    await trio.sleep(10)
    assert world.chain.lists == 2
    await trio.sleep(1000)
    world.chain.height += 1
    await trio.sleep(10)
    assert world.chain.lists == 2


@pytest.mark.parametrize(
    "act", [UNREACHABLE, FailureCode.NO_CAPACITY, FailureCode.INTERNAL, FailureCode.NEIGHBOUR_LOST, 0]
)
async def test_another_path_is_taken_before_the_caller_sees_an_error(world: World, autojump_clock, act: Script) -> None:
    cheap = world.chain.add("cheap", price=1)
    world.chain.add("dear", price=5)
    world.network.scripts["cheap"] = [act]
    tokens, answer = await world.ask()
    assert len(tokens) == 4
    assert answer.workers[0].peer_id == "dear"
    world.network.dialled.clear()
    await world.ask()
    assert world.network.dialled == [["dear"]], "it is left out for the next request"
    await trio.sleep(10)
    _, later = await world.ask(dataclasses.replace(ASK, prefer=Prefer.CHEAP))
    assert later.workers[0].worker == cheap, "and tried again later"


async def test_an_order_that_was_never_sent_loses_no_slice(world: World, autojump_clock) -> None:
    world.chain.add("cheap", price=1)
    world.chain.add("dear", price=5)
    world.network.scripts["cheap"] = [UNREACHABLE]
    _, answer = await world.ask()
    held = world.inference.find_session(answer.session)
    assert held is not None
    assert held.book.dead == 0


async def test_a_failing_worker_is_tried_when_nobody_else_serves(world: World, autojump_clock) -> None:
    world.chain.add("only")
    world.network.scripts["only"] = [UNREACHABLE]
    with pytest.raises(NobodyServes, match="only cannot be reached"):
        await world.ask()
    tokens, _ = await world.ask()
    assert len(tokens) == 4


async def test_capacity_is_told_from_failure(world: World, autojump_clock) -> None:
    for name in "abcdef":
        world.chain.add(name)
        world.network.scripts[name] = [FailureCode.NO_CAPACITY]
    with pytest.raises(NobodyServes, match="in a moment") as busy:
        await world.ask()
    assert busy.value.is_busy
    assert len(busy.value.reasons) == PATHS_MAX


@pytest.mark.parametrize("code", [FailureCode.BAD_INPUT, FailureCode.CANCELLED, FailureCode.UNVOUCHED])
@pytest.mark.parametrize("names", ["a", "abc"])
async def test_what_two_paths_or_the_only_one_refuse_is_raised(
    world: World, autojump_clock, code: FailureCode, names: str
) -> None:
    for name in names:
        world.chain.add(name)
        world.network.scripts[name] = [code]
    with pytest.raises(InferenceRefused, match=code.name):
        await world.ask()
    assert len(world.network.dialled) == min(2, len(names))


async def test_a_price_that_rose_is_read_again_once(world: World, autojump_clock) -> None:
    key = world.chain.add("a", price=1)
    await world.ask()
    world.chain.workers[key] = dataclasses.replace(world.chain.workers[key], prefill_price=2)
    world.network.scripts["a"] = [FailureCode.PRICE_TOO_LOW]
    _, answer = await world.ask()
    assert answer.path[0].prefill_price == 2
    world.network.scripts["a"] = [FailureCode.PRICE_TOO_LOW] * 2
    with pytest.raises(InferenceRefused, match="PRICE_TOO_LOW"):
        await world.ask()


async def test_a_node_that_has_not_seen_the_opening_yet_gets_the_same_order_again(world: World, autojump_clock) -> None:
    world.chain.add("a")
    world.network.scripts["a"] = [FailureCode.NO_ESCROW] * 3
    tokens, answer = await world.ask()
    assert len(tokens) == 4
    assert len({one.request for one in world.network.machines}) == 1
    held = world.inference.find_session(answer.session)
    assert held is not None
    assert held.book.dead == 0


async def test_leaving_early_cancels_and_owes_what_was_vouched(world: World, autojump_clock) -> None:
    world.chain.add("a")
    async with world.inference.ask(ASK) as answer:
        async for _ in answer:
            break
    assert world.network.cancelled == 1
    assert answer.cost_nmyl == LAYERS * (3 + 1)
    held = world.inference.find_session(answer.session)
    assert held is not None
    assert (held.book.running, held.book.vouched, held.book.dead) == (0, 1, 0)


async def test_an_error_of_the_block_comes_through(world: World, autojump_clock) -> None:
    world.chain.add("a")

    async def fail() -> None:
        async with world.inference.ask(ASK):
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert world.network.cancelled == 1


async def test_a_request_without_a_voucher_is_lost_and_one_with_it_may_come(world: World, autojump_clock) -> None:
    world.chain.add("a")
    async with world.inference.ask(ASK) as early:
        pass
    assert (await world.inference.get_outcome(early.request)).resolution is Resolution.LOST
    _, answer = await world.ask()
    world.chain.sessions[answer.session] = type("Open", (), {"is_settleable": True})
    assert (await world.inference.get_outcome(answer.request)).resolution is Resolution.PENDING
    await trio.sleep(5)
    world.chain.sessions.clear()
    assert (await world.inference.get_outcome(answer.request)).resolution is Resolution.LOST
    assert (await world.inference.get_outcome(b"?" * 32)).resolution is Resolution.PENDING


async def test_requests_at_once_share_a_session_and_no_position(world: World, autojump_clock) -> None:
    world.chain.add("a")
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(world.ask)
    orders = [one._order.order for one in world.network.machines]  # noqa: SLF001
    slices = sorted((one.slice_start, one.slice_end) for one in orders)
    assert len({one.session for one in orders}) == 1
    assert sorted(one.sequence for one in orders) == list(range(20))
    assert all(before[1] <= after[0] for before, after in pairwise(slices))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sampling": SamplingParams(10**6, 0, 1000, 0)}, "temperature 1000"),
        ({"sampling": SamplingParams(0, 0, 1000, 2**64)}, "no unsigned 64-bit"),
        ({"tokens_max": 0}, "at least one"),
        ({"tokens_max": 10**6}, "positions"),
        ({"prompt": ()}, "at least one"),
        ({"model": b"x" * 32}, "not registered"),
        ({"grammar": b"{}"}, "grammar is not the one"),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_paid(
    world: World, autojump_clock, changes: dict[str, Any], reason: str
) -> None:
    world.chain.add("a")
    with pytest.raises(InferenceRefused, match=reason):
        await world.ask(dataclasses.replace(ASK, **changes))
    assert not world.bank.sessions
