"""The bus: everybody hears every block, who lags is cut off and delays nobody."""

from __future__ import annotations

import pytest
import trio

from node.chain import bus as bus_module
from node.chain.bus import BACKLOG_MAX, BlockBus, TooManySubscribers
from tests.unit.node.world import World


async def test_every_subscriber_hears_blocks_from_then_on(world: World) -> None:
    bus, first, second = BlockBus(), world.add_block(), world.add_block()
    async with bus.subscribe() as early:
        bus.publish(first)
        async with bus.subscribe() as late:
            bus.publish(second)
            assert await late.receive() is second
        assert [await early.receive(), await early.receive()] == [first, second]


async def test_who_falls_behind_hears_the_end(world: World) -> None:
    bus, block = BlockBus(), world.add_block()
    async with bus.subscribe() as slow, bus.subscribe() as quick:
        for _ in range(BACKLOG_MAX):
            bus.publish(block)
            await quick.receive()
        bus.publish(block)
        assert await quick.receive() is block
        heard = [one async for one in slow]
        assert len(heard) == BACKLOG_MAX


async def test_a_subscription_ends_with_its_block(world: World) -> None:
    bus = BlockBus()
    async with bus.subscribe() as channel:
        pass
    bus.publish(world.add_block())
    with pytest.raises(trio.ClosedResourceError):
        await channel.receive()


async def test_subscribers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "SUBSCRIBERS_MAX", 1)
    bus = BlockBus()
    async with bus.subscribe():
        with pytest.raises(TooManySubscribers):
            async with bus.subscribe():
                pass
