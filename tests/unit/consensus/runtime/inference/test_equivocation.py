"""Two leaves for one slot: slashed once, and no gain in reporting oneself."""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.events import WorkerEquivocated
from genesis.dev import get_dev_identity
from proto_specs.types.calls import ReportEquivocation
from proto_specs.types.request import Leaf, sign_input, sign_output
from tests.unit.consensus.runtime.inference.inference_world import BOND, World

LEAF = Leaf(bytes(32), 1, 0, 0, 32, 64, 0, bytes(32), bytes(32), bytes(32))


def test_two_leaves_for_one_slot_are_slashed_once() -> None:
    world = World(equivocation_slash_permille=500)
    key, eve = world.workers[0].worker_key, get_dev_identity("eve")
    other = replace(LEAF, payload_hash=b"x" * 32)
    call = ReportEquivocation(key.public_key, True, LEAF, sign_output(LEAF, key), other, sign_output(other, key))
    same = replace(call, second=LEAF, second_signature=call.first_signature)
    world.chain.expect_error(eve, same, errors.NoEquivocation)
    moved = replace(other, window=1)
    elsewhere = replace(call, second=moved, second_signature=sign_output(moved, key))
    world.chain.expect_error(eve, elsewhere, errors.NoEquivocation)
    role = replace(call, second_signature=sign_input(other, key))
    world.chain.expect_error(eve, role, errors.NoEquivocation)
    (event,) = world.chain.expect_ok(eve, call).events
    assert isinstance(event, WorkerEquivocated)
    assert (event.amount, event.bounty, event.burned) == (BOND // 2, BOND // 20, BOND // 2 - BOND // 20)
    worker = queries.read_worker(world.chain.state, key.public_key)
    assert worker is not None
    assert worker.bond == BOND // 2
    world.chain.expect_error(eve, call, errors.AlreadyReported)
