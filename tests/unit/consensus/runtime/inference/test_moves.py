"""A worker moves to other layers: what comes along, what has to be settled before, and what a cheat would try."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.runtime.inference import errors, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import RequestSettled, StagePaid
from consensus.runtime.inference.move_events import WorkerMoved
from consensus.runtime.inference.state import Worker, WorkerStatus
from consensus.state.overlay import Overlay
from genesis.dev import get_dev_identity
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.request import PathStage, compute_request_id
from tests.unit.consensus.runtime.inference.inference_world import LAYERS, PRICE, World, pick

EVE = get_dev_identity("eve")
NOTICE = 10


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World(session_notice_blocks=NOTICE)


def move(world: World, number: int, start: int, end: int) -> calls.MoveWorker:
    return calls.MoveWorker(world.workers[number].worker_key.public_key, start, end)


def read(world: World, number: int) -> Worker:
    found = queries.read_worker(world.chain.state, world.workers[number].worker_key.public_key)
    assert found is not None
    return found


def edit(world: World, change: Any) -> None:
    """Write into the state as no call does."""
    overlay = Overlay(world.chain.state)
    change(overlay)
    world.chain.state.apply(overlay.changes())


def test_a_mover_keeps_all_but_its_range(world: World) -> None:
    bob, before = world.workers[0], read(world, 0)
    receipt = world.chain.expect_ok(bob, move(world, 0, 1, 4))
    until = world.chain.height + NOTICE
    assert pick(receipt.events, WorkerMoved) == [WorkerMoved(bob.worker_key.public_key, bob.account, 1, 4, until)]
    assert read(world, 0) == replace(before, start=1, end=4)


def test_a_move_is_checked(world: World) -> None:
    expect, bob = world.chain.expect_error, world.workers[0]
    expect(EVE, move(world, 0, 2, 4), errors.NotOperator)
    expect(bob, calls.MoveWorker(bytes(32), 2, 4), errors.UnknownWorker)
    for start, end in ((0, 2), (3, 3), (4, 2), (0, LAYERS + 1)):  # the first is where it is
        expect(bob, move(world, 0, start, end), errors.BadRange)
    world.chain.expect_ok(bob, calls.RetireWorker(bob.worker_key.public_key))
    expect(bob, move(world, 0, 2, 4), errors.WorkerNotActive)


def test_one_that_left_to_reload_stays_absent(world: World) -> None:
    bob, key = world.workers[0], world.workers[0].worker_key.public_key
    world.chain.expect_ok(bob, calls.LeaveWorker(key))
    world.chain.expect_ok(bob, move(world, 0, 2, 4))
    assert read(world, 0).status == WorkerStatus.ABSENT
    world.chain.expect_ok(bob, calls.UpdateWorker(key, "peer", (), PRICE // 2, PRICE))
    assert (read(world, 0).status, read(world, 0).start) == (WorkerStatus.ACTIVE, 2)


def test_nobody_moves_out_of_a_challenge(world: World) -> None:
    bob = world.workers[0]
    world.chain.expect_ok(bob, world.settle())
    world.chain.expect_error(bob, move(world, 0, 2, 4), errors.StagesUnresolved)
    challenges = world.chain.skip(2)
    world.chain.expect_error(bob, move(world, 0, 2, 4), errors.StagesUnresolved)
    for one in challenges:
        if hasattr(one, "challenge"):
            world.judge(one.challenge, world.verifiers[0], Outcome.PASS)
    assert not read(world, 0).open_stages
    passes = read(world, 0).passes
    world.chain.expect_ok(bob, move(world, 0, 2, 4))
    assert read(world, 0).passes == passes, "a record is the operator's"


def test_nobody_moves_out_of_an_audit(world: World) -> None:
    bob = world.workers[0]
    key, audit = bob.worker_key.public_key, bytes(32)
    edit(world, lambda state: inference.open_audits.add(state, key, audit))
    world.chain.expect_error(bob, move(world, 0, 2, 4), errors.AuditOpen)
    world.chain.expect_ok(world.workers[1], move(world, 1, 0, 4))  # another's audit is no matter
    edit(world, lambda state: inference.open_audits.remove(state, key, audit))
    world.chain.expect_ok(bob, move(world, 0, 2, 4))


def test_what_ran_over_the_old_range_is_settled_and_paid(world: World) -> None:
    """Else one worker could spoil the pay of the whole path by moving before the settlement."""
    bob = world.workers[0]
    world.chain.expect_ok(bob, move(world, 0, 4, 6))
    receipt = world.chain.expect_ok(world.workers[1], world.settle())
    assert pick(receipt.events, RequestSettled)
    events = world.chain.skip(2)
    for one in events:
        if hasattr(one, "challenge") and hasattr(one, "window"):
            receipt = world.judge(one.challenge, world.verifiers[0], Outcome.PASS)
            events += receipt.events
    paid = {one.worker for one in pick(events, StagePaid)}
    assert paid == {one.worker_key.public_key for one in world.workers}
    assert (read(world, 0).open_stages, read(world, 0).unresolved) == (0, 0)


def test_an_old_range_settles_for_a_notice_period_and_holds_its_worker_that_long(world: World) -> None:
    bob = world.workers[0]
    world.chain.expect_ok(bob, move(world, 0, 4, 6))
    world.chain.skip(NOTICE - 2)
    world.chain.expect_error(bob, move(world, 0, 0, 2), errors.MovedLately)
    world.chain.expect_error(world.workers[1], world.settle(), errors.BadPath)
    world.chain.expect_ok(bob, move(world, 0, 0, 2))
    world.chain.expect_ok(world.workers[1], world.settle())


def test_a_range_that_was_left_two_moves_ago_settles_nothing(world: World) -> None:
    bob = world.workers[0]
    for start, end in ((2, 4), (4, 6)):
        world.chain.expect_ok(bob, move(world, 0, start, end))
        world.chain.skip(NOTICE)
    world.chain.expect_error(world.workers[1], world.settle(), errors.BadPath)


def test_a_key_with_a_former_range_holds_one_stage_of_a_path(world: World) -> None:
    """Two stages of one key would be counted against its bond as one."""
    bob, charlie, dave = (one.worker_key.public_key for one in world.workers)
    world.chain.expect_ok(world.workers[0], move(world, 0, 2, 4))
    path = tuple(PathStage(key, at, at + 2, PRICE // 2, PRICE) for at, key in ((0, bob), (2, bob), (4, dave)))
    call = world.settle(path=path)
    world.chain.expect_error(world.workers[0], call, errors.BadPath)
    fine = tuple(PathStage(key, at, at + 2, PRICE // 2, PRICE) for at, key in ((0, bob), (2, charlie), (4, dave)))
    order = world.order(path=fine)
    world.chain.expect_ok(world.workers[0], world.settle_order(order))
    assert queries.read_request(world.chain.state, compute_request_id(order.order)) is not None


@settings(max_examples=25, deadline=None)
@given(
    acts=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, LAYERS - 1), st.integers(1, LAYERS), st.integers(0, 12)),
        max_size=12,
    )
)
def test_moves_are_a_notice_period_apart_and_bonds_stay(acts) -> None:
    world = World(session_notice_blocks=NOTICE)
    bonds = [read(world, number).bond for number in range(3)]
    moved_at: dict[int, int] = {}
    for number, start, length, wait in acts:
        world.chain.skip(wait)
        held, end = read(world, number), min(LAYERS, start + length)
        height = world.chain.height + 1
        call = move(world, number, start, end)
        if (held.start, held.end) == (start, end):
            world.chain.expect_error(world.workers[number], call, errors.BadRange)
        elif height < moved_at.get(number, -NOTICE) + NOTICE:
            world.chain.expect_error(world.workers[number], call, errors.MovedLately)
        else:
            world.chain.expect_ok(world.workers[number], call)
            moved_at[number] = height
            assert (read(world, number).start, read(world, number).end) == (start, end)
    assert [read(world, number).bond for number in range(3)] == bonds
