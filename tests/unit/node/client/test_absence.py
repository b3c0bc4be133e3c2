"""Workers that are away, and a client that ends: what is told of it. Over the scripted network of test_inference."""

from __future__ import annotations

import dataclasses

import pytest
import trio

from node.client.errors import AskingEnded, NobodyServes, WorkersAway
from node.client.inference import PaidInference
from tests.unit.node.client.test_inference import ASK, LAYERS, UNREACHABLE, World, world

__all__ = ["world"]


async def test_layers_whose_only_worker_failed_lately_are_told(world: World, autojump_clock) -> None:
    world.chain.add("a")
    await world.ask()
    await world.inference.probe_workers()
    world.network.scripts["a"] = [UNREACHABLE, None]
    with pytest.raises(NobodyServes):
        await world.ask()
    with pytest.raises(WorkersAway, match="failed lately"):
        await world.inference.probe_workers()
    await world.ask()
    await world.inference.probe_workers()


async def test_an_answer_that_its_client_ends_is_not_taken_for_whole(world: World, autojump_clock) -> None:
    world.chain.add("a")

    async def ask(nursery: trio.Nursery) -> None:
        inference = PaidInference(dataclasses.replace(world.parts, nursery=nursery))
        async with inference.ask(ASK) as answer:
            async for _ in answer:
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope(shield=True), pytest.raises(AskingEnded) as ended:
            await ask(nursery)
    assert ended.value.cost == LAYERS * (3 + 1)
