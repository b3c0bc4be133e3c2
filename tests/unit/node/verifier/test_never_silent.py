"""Whatever befalls a verifier, every seat has its commitment before the deadline, and what can be judged is judged."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path as FilePath

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import StoreError
from node.p2p.errors import PeerUnreachable
from node.verifier import duty as module
from node.verifier.fetch_budget import FetchBudget
from proto_specs.types.calls import Outcome
from proto_specs.types.verdict import compute_fingerprint_seed
from tests.unit.node.verifier.world import BEACON, DEADLINE, START, World, run_blocks, run_inline


@pytest.fixture
def world(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


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
