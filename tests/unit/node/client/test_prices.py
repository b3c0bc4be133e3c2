"""Who is asked depends on what they ask for: too dear ones are not, nor those whose bond is too small."""

from __future__ import annotations

import pytest

from inference.routing import NoPathError
from tests.unit.node.client.test_inference import World, world

__all__ = ["world"]


async def test_nobody_below_the_price(world: World, autojump_clock) -> None:
    world.chain.add("a", price=50)
    with pytest.raises(NoPathError, match="the cheapest is 50 nmyl"):
        await world.ask()
    assert not world.bank.sessions


async def test_a_worker_whose_bond_is_too_small_for_the_request_is_left_out(world: World, autojump_clock) -> None:
    world.chain.add("poor", price=1, gross_max=10)
    world.chain.add("rich", price=2)
    _, answer = await world.ask()
    assert answer.workers[0].peer_id == "rich"
