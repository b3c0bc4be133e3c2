"""Workers that hang when they are drawn, to have honest verifiers slashed for silence and a cheat unjudged."""

from __future__ import annotations

from pathlib import Path as FilePath

import pytest
import trio

from node.verifier import duty, fetch_budget
from node.verifier.commitment import Commitment
from node.verifier.duty import VerificationDuty
from node.verifier.fetch_budget import FetchBudget
from proto_specs.types.calls import Outcome
from tests.unit.node.verifier.world import DEADLINE, World, run_blocks, run_inline

HANGING = 512


@pytest.fixture
def world(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def draw_of_others(world: World, count: int, *addresses: str) -> list[bytes]:
    """Challenges of as many workers, or with an address of the one that has it."""
    drawn = []
    for number in range(count):
        worker = b"one".ljust(32) if addresses else number.to_bytes(32, "big")
        world.chain.addresses[worker] = addresses or (worker.hex(),)
        drawn.append(world.draw(1, 1, DEADLINE, number.to_bytes(32, "big"), worker))
    return drawn


async def hang_512(world: World, hanging: list[bytes]) -> None:
    honest = [world.draw(stage=stage, deadline=DEADLINE + 1) for stage in (0, 2)]
    await run_blocks(world, DEADLINE + 1)
    assert world.landed.keys() == {*hanging, *honest}
    assert max(world.landed.values()) <= DEADLINE
    assert {world.outcome(one) for one in honest} == {Outcome.PASS}
    assert {world.outcome(one) for one in hanging} == {Outcome.UNAVAILABLE}


async def test_512_workers_that_hang_silence_nobody_and_starve_nobody(
    world: World, autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
    hanging = draw_of_others(world, HANGING)
    world.network.silent = {address for addresses in world.chain.addresses.values() for address in addresses}
    await hang_512(world, hanging)


async def test_a_worker_that_hangs_in_512_challenges_is_unavailable_in_all_of_them(
    world: World, autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
    world.network.silent = {"silent"}
    await hang_512(world, draw_of_others(world, HANGING, "silent"))


async def test_with_sixteen_at_once_most_would_not_be_asked(
    world: World, autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was: an honest worker behind 512 silent ones is never reached."""
    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
    monkeypatch.setattr(fetch_budget, "SUSPECT_SHARE", 1)
    monkeypatch.setattr(duty, "OPENING_TIMEOUT_S", 15.0)
    world.duty._budget = FetchBudget(16 << 20)  # noqa: SLF001
    monkeypatch.setattr(Commitment, "compute_bytes_max", lambda *_: 1 << 20)
    draw_of_others(world, HANGING)
    world.network.silent = {address for addresses in world.chain.addresses.values() for address in addresses}
    honest: list[bytes] = []

    async def draw_later() -> None:
        await trio.sleep(0.5)
        honest.append(world.draw(stage=0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(draw_later)
        await run_blocks(world, DEADLINE + 1)
    assert world.outcome(honest[0]) is Outcome.INCONCLUSIVE
    assert len(world.landed) == HANGING + 1, "but nobody is silent"


async def test_without_a_word_at_the_last_block_they_would_be_silent(
    world: World, autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was: what there is no time for ends with a line in a log, and costs stake."""
    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
    monkeypatch.setattr(VerificationDuty, "_put_commitment", put_none)
    draw_of_others(world, 3)
    world.network.silent = {address for addresses in world.chain.addresses.values() for address in addresses}
    await run_blocks(world, DEADLINE + 1)
    assert not world.landed


async def put_none(*_: object) -> None:
    """Nothing is committed."""
