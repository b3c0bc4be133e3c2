"""An answer that loses a path after its first token: another order goes on, or it ends with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference.serving.client import ClientRequest
from node.client.answer import Generated
from node.client.attempt import COST_FACTOR_MAX, PATHS_MAX
from node.client.errors import RequestLost
from proto_specs.types.request import (
    Continuation,
    compute_price_max,
    compute_prompt_hash,
    compute_request_id,
    pack_tokens,
)
from proto_specs.types.wire import FailureCode
from tests.unit.node.client.paid_world import (
    ASK,
    LAYERS,
    World,
    open_world,
)


@pytest.fixture
async def world(tmp_path: Path, autojump_clock) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def test_an_answer_that_loses_its_path_goes_on_over_another(world: World, autojump_clock) -> None:
    """Nothing was signed by all yet: the order that goes on bills the prompt again, and the answer so far as prompt."""
    world.chain.add("a", price=1)
    world.chain.add("b", price=1)
    world.network.scripts["a"] = world.network.scripts["b"] = [2]
    tokens, answer = await world.ask()
    assert tokens == [7, 8, 7, 8]
    first, second = (one.order.order for one in world.network.machines)
    assert first.continuation is None
    assert second.continuation == Continuation(compute_request_id(first), 1, 3, 0)
    assert (second.prompt_tokens, second.tokens_max) == (5, 2)
    assert second.prompt_hash == compute_prompt_hash(pack_tokens((1, 2, 3, 7, 8)))
    assert second.session == first.session
    assert second.slice_start >= first.slice_end
    assert first.path != second.path
    assert answer.cost_nmyl == LAYERS * (5 + 2)
    assert answer.orders == 2


async def test_an_answer_that_nobody_can_go_on_with_is_lost_with_its_reason(world: World, autojump_clock) -> None:
    world.chain.add("a")
    world.network.scripts["a"] = [2]
    got: list[int] = []

    async def ask() -> None:
        async with world.inference.ask(ASK) as answer:
            async for one in answer:
                assert isinstance(one, Generated)
                got.append(one.token)

    with pytest.raises(RequestLost, match="stage 0 went away") as lost:
        await ask()
    assert got == [7, 8]
    assert lost.value.cost == 0
    assert len(world.network.machines) == 1


@pytest.mark.parametrize("code", [FailureCode.UNVOUCHED, FailureCode.NO_ESCROW, FailureCode.BAD_ORDER])
async def test_what_no_other_worker_would_do_better_ends_an_answer(
    world: World, autojump_clock, code: FailureCode
) -> None:
    for name in "abc":
        world.chain.add(name)
        world.network.scripts[name] = [(2, code)]
    with pytest.raises(RequestLost, match=code.name):
        await world.ask()
    assert len(world.network.machines) == 1


async def test_each_new_token_gives_an_answer_as_many_tries_again(world: World, autojump_clock) -> None:
    """A path a token: more paths than are tried without one."""
    for number in range(PATHS_MAX + 3):
        world.chain.add(f"w{number}")
        world.network.scripts[f"w{number}"] = [1]
    tokens, answer = await world.ask(dataclasses.replace(ASK, tokens_max=PATHS_MAX + 2))
    assert len(tokens) == PATHS_MAX + 2
    epochs = [one.order.order.epoch for one in world.network.machines]
    assert epochs == list(range(PATHS_MAX + 2))
    assert answer.orders == PATHS_MAX + 2


async def test_paths_that_are_paid_and_fail_are_not_tried_for_ever(
    world: World, autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: each worker takes a voucher for the whole prompt, gives a token, keeps the roots, and is gone."""
    monkeypatch.setattr(ClientRequest, "cost_nmyl", property(lambda machine: compute_price_max(machine.order.order)))
    for number in range(30):
        world.chain.add(f"w{number}")
        world.network.scripts[f"w{number}"] = [1]
    with pytest.raises(RequestLost):
        await world.ask(dataclasses.replace(ASK, tokens_max=29))
    assert len(world.network.machines) <= COST_FACTOR_MAX + 2
