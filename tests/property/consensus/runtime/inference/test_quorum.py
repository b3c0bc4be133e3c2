"""Who reports whom, in any order, at any time: a worker is absent by fresh reports of a quorum alone, and at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.runtime.inference import absence, queries
from consensus.runtime.inference.state import WorkerStatus
from genesis.dev import get_dev_identity
from proto_specs.types import calls
from tests.unit.consensus.runtime.inference.inference_world import World

FOUR = ("alice", "ferdie", "grace", "heidi")
BLOCKS = 12
BOB = get_dev_identity("bob")
KEY = BOB.worker_key.public_key


@given(st.integers(0, 2**64), st.integers(0, 2**64))
def test_a_quorum_is_more_than_two_thirds_and_no_two_are_disjoint(reported: int, other: int) -> None:
    total = reported + other
    assert absence.is_quorum(reported, total) == (reported * 3 > total * 2)
    assert not (absence.is_quorum(reported, total) and absence.is_quorum(other, total))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), max_size=10))
def test_a_worker_is_marked_exactly_when_fresh_reports_are_a_quorum(steps: list[tuple[int, int]]) -> None:
    world, last = World(FOUR, absence_blocks=BLOCKS), dict[int, int]()
    for who, wait in steps:
        world.chain.skip(wait)
        world.chain.expect_ok(world.verifiers[who], calls.ReportAbsent(KEY))
        last[who] = world.chain.height
        fresh = [one for one, height in last.items() if height + BLOCKS > world.chain.height]
        worker = queries.read_worker(world.chain.state, KEY)
        assert worker is not None
        assert (worker.status == WorkerStatus.ABSENT) == (3 * len(fresh) > 2 * len(FOUR))
        if worker.status == WorkerStatus.ABSENT:
            return
        kept = queries.list_absence_reports(world.chain.state, KEY)
        assert kept.keys() == {world.verifiers[one].account for one in fresh}, "what counts no more is deleted"
