"""What is said of a request that the chain does not show, when nobody here remembers it."""

from __future__ import annotations

from node.client.answer import Resolution
from tests.unit.node.client.test_inference import World, world

__all__ = ["world"]


async def test_a_request_of_an_earlier_run_is_lost_with_its_session(world: World, autojump_clock) -> None:
    early, session = b"?" * 32, b"s" * 32
    for is_settleable, expected in ((True, Resolution.PENDING), (False, Resolution.LOST)):
        world.chain.sessions[session] = type("Seen", (), {"is_settleable": is_settleable})
        assert (await world.inference.get_outcome(early, session)).resolution is expected
    del world.chain.sessions[session]
    world.chain.is_current = False
    assert (await world.inference.get_outcome(early, session)).resolution is Resolution.PENDING, "it may be unknown yet"
    world.chain.is_current = True
    assert (await world.inference.get_outcome(early, session)).resolution is Resolution.LOST
