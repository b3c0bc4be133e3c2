"""Whatever befalls a verifier, every seat has its commitment before the deadline, and what can be judged is judged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import StoreError
from node.p2p.errors import PeerUnreachable
from node.verifier import duty as module
from node.verifier import fetch_budget
from node.verifier.fetch_budget import FetchBudget
from proto_specs.types.calls import Outcome
from proto_specs.types.verdict import compute_fingerprint_seed
from tests.unit.node.verifier.world import BEACON, DEADLINE, World

HANGING = 512
START = 5


@pytest.fixture
def world(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


async def run_inline(work: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """Instead of a thread: virtual time does not pass meanwhile."""
    await trio.lowlevel.checkpoint()
    return work(*args)


async def run_blocks(world: World, until: int, gone: int = 0, back: int = 0) -> None:
    """The duty runs while a block comes every second; from block `gone` to `back` the node is away."""
    async with trio.open_nursery() as nursery:
        world.chain.is_reachable = not gone <= world.chain.height < back
        nursery.start_soon(world.duty.run)
        while world.chain.height < until:
            await trio.sleep(1)
            world.note_landed()
            world.chain.height += 1
            world.chain.is_reachable = not gone <= world.chain.height < back
        nursery.cancel_scope.cancel()


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
    world.duty._budget = FetchBudget(16 << 20)  # noqa: SLF001
    monkeypatch.setattr(module, "_compute_bytes_max", lambda *_: 1 << 20)
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


async def test_a_judge_that_never_returns_is_said_in_time(world: World, mock_clock) -> None:
    mock_clock.autojump_threshold = 0.02  # real threads: time stands still for them
    stuck = world.judge.waits_for = threading.Event()
    drawn = [world.draw(stage=one) for one in range(3)]
    try:
        await run_blocks(world, DEADLINE)
        assert world.landed.keys() == set(drawn)
        assert {world.outcome(one) for one in drawn} == {Outcome.INCONCLUSIVE}
        assert world.judge.judged == 1, "nothing else is judged before it is done"
    finally:
        stuck.set()


@dataclass(frozen=True)
class Trouble:
    """What befalls a challenge."""

    kind: str
    deadline: int


TROUBLES = st.builds(
    Trouble,
    st.sampled_from(("none", "hangs", "refuses", "garbage", "lost record", "no model", "bug", "memory")),
    st.integers(START + 4, DEADLINE + 6),
)


@settings(max_examples=60, deadline=None)
@given(
    troubles=st.lists(TROUBLES, min_size=1, max_size=12),
    gone=st.integers(START, DEADLINE),
    away=st.integers(0, 6),
    is_disk_full=st.booleans(),
)
def test_every_seat_has_a_commitment_in_time(
    tmp_path_factory: pytest.TempPathFactory, troubles: list[Trouble], gone: int, away: int, is_disk_full: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", run_inline)
        world = World(tmp_path_factory.mktemp("duty"), patch)
        if is_disk_full:
            patch.setattr(world.store, "save", fail)
        drawn = [spoil(world, number, trouble) for number, trouble in enumerate(troubles)]
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(run_blocks, world, DEADLINE + 8, gone, gone + away, clock=clock)
    for challenge, trouble in zip(drawn, troubles, strict=True):
        safe = trouble.deadline - module.SAFE_BLOCKS
        if gone <= safe < gone + away:
            continue  # nothing can be sent without a node
        assert world.landed[challenge] <= trouble.deadline, trouble
        if trouble.kind == "none":
            assert world.outcome(challenge) is Outcome.PASS
        elif trouble.kind in ("lost record", "no model", "bug", "memory"):
            assert world.outcome(challenge) is Outcome.INCONCLUSIVE


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def spoil(world: World, number: int, trouble: Trouble) -> bytes:
    worker = number.to_bytes(32, "big")
    address = worker.hex()
    world.chain.addresses[worker] = (address,)
    challenge = world.draw(1, 1, trouble.deadline, worker, worker)
    failures = {"no model": StoreError("not here"), "bug": KeyError("a bug"), "memory": MemoryError()}
    match trouble.kind:
        case "hangs":
            world.network.silent.add(address)
        case "refuses":
            world.network.failing[address] = PeerUnreachable("no")
        case "garbage":
            world.network.answers[address] = b"\xc1"
        case "lost record":
            world.chain.lost.add(worker)
        case kind if kind in failures:
            world.judge.failures[compute_fingerprint_seed(BEACON, challenge)] = failures[kind]
    return challenge


async def test_room_for_openings_is_bounded_and_suspects_have_a_quarter(autojump_clock) -> None:
    budget, held = FetchBudget(100), 0

    async def fetch(worker: bytes, size: int, lasts_s: float) -> None:
        nonlocal held
        async with budget.take(worker, size):
            held += size
            assert held <= 100
            await trio.sleep(lasts_s)
            held -= size

    for number in range(4):
        budget.note_failure(bytes([number]))
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(fetch, bytes([number]), 20, 100.0)
        await trio.testing.wait_all_tasks_blocked()
        assert held == 20
        for _ in range(9):
            nursery.start_soon(fetch, b"new", 10, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        assert held == 20 + 60, "and of one worker six at most"
        await trio.sleep(2.5)
        assert held == 20, "whose answers come waits for nobody else's silence"
