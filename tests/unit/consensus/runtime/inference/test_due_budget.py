"""Work that is due is bounded in every block: what does not fit waits, in order, and nothing is lost or overtakes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.executive import BlockExecution, execute_block
from consensus.runtime.inference import due_weights, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import SessionClosed, WorkerReleased
from consensus.runtime.inference.state import SEQUENCES_CHUNK, DueKind, SessionStatus, WorkerStatus
from consensus.runtime.staking import state as staking
from consensus.runtime.system import state as system
from consensus.runtime.weights import price_cost
from consensus.state.overlay import Overlay
from consensus.state.reader import DictState
from genesis.dev import get_dev_identity
from proto_specs.types import calls
from tests.unit.consensus.runtime.inference.inference_world import World, pick


class Counted(DictState):
    """Counts the rows that iterations really fetch."""

    def __init__(self, items: dict[bytes, bytes]) -> None:
        super().__init__(items)
        self.rows = 0

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for item in super().iterate(prefix):
            self.rows += 1
            yield item


def change_state(world: World, write: Any) -> None:
    overlay = Overlay(world.chain.state)
    write(overlay)
    world.chain.state.apply(overlay.changes())


def set_budget(world: World, weight: int) -> None:
    """Blocks that spend so much on what is due."""
    params = system.read_params(world.chain.state)
    permille = weight * 1_000 // params.block_weight_max
    change_state(world, lambda state: system.params.write(state, replace(params, due_permille=permille)))


def list_due(world: World) -> list[tuple[int, int]]:
    return [(height, kind) for height, kind, _ in inference.due.iterate(world.chain.state)]


def test_a_session_of_many_requests_is_forgotten_in_parts() -> None:
    """100,000 requests made an empty block take 0.6 s. Their numbers are 98 records now; here they are far more, and no
    block reads or deletes more of them than its budget says."""
    world = World(retention_blocks=100)
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    closed = queries.read_session(world.chain.state, world.session)
    assert closed is not None
    world.chain.skip(closed.close_height - world.chain.height)
    records = 5_000

    def write(state: Overlay) -> None:
        for chunk in range(records):
            inference.sequences_used.write(state, world.session, chunk, bytes(SEQUENCES_CHUNK // 8))

    change_state(world, write)
    set_budget(world, 40_000)
    world.chain.skip(99)
    left, blocks = records, 0
    while queries.read_session(world.chain.state, world.session) is not None:
        counted = Counted(dict(world.chain.state.items))
        executed = execute_block(counted, world.chain.context(), (), ())
        deleted = sum(1 for key, value in executed.changes if value is None)
        budget = due_weights.compute_due_weight(DueKind.FORGET_SESSION, deleted)
        assert budget <= 45_000, "by its own table"
        assert counted.rows <= deleted + 600, "what is not deleted is not read"
        world.chain.block()
        remaining = sum(1 for _ in inference.sequences_used.iterate(world.chain.state, world.session))
        assert remaining < left
        left, blocks = remaining, blocks + 1
    assert left == 0
    assert 4 <= blocks <= 10
    assert inference.due_from.read(world.chain.state) == 0


def test_what_is_left_over_is_done_first_and_in_order() -> None:
    world = World(session_expiry_blocks=30)
    sessions = [world.open_session() for _ in range(12)]
    height = world.chain.height + 30
    change_state(world, lambda state: move_closings(state, sessions, height))
    set_budget(world, 2 * due_weights.compute_due_weight(DueKind.SESSION_CLOSE, 0) + 10)
    world.chain.skip(height - world.chain.height - 1)
    closed: list[bytes] = []
    per_block = []
    while len(closed) < len(sessions):
        found = [one.session for one in pick(list(world.chain.block().events.initialize), SessionClosed)]
        found = [one for one in found if one in sessions]
        per_block.append(len(found))
        closed += found
        assert len(per_block) < 20
    assert closed == sorted(sessions), "the order of ids, though it took many blocks"
    assert max(per_block) <= 2


def move_closings(state: Overlay, sessions: list[bytes], height: int) -> None:
    """All at one height."""
    for one in sessions:
        found = inference.sessions.read(state, one)
        assert found is not None
        inference.due.remove(state, found.close_height, DueKind.SESSION_CLOSE, one)
        inference.due.add(state, height, DueKind.SESSION_CLOSE, one)
        inference.sessions.write(state, one, replace(found, close_height=height))


def test_due_work_narrows_the_rest_of_the_block() -> None:
    world = World()
    sessions = [world.open_session() for _ in range(8)]
    height = world.chain.height + 2
    change_state(world, lambda state: move_closings(state, sessions, height))
    world.chain.skip(1)
    execution = BlockExecution(world.chain.state, world.chain.context(), ())
    used = execution._space.weight  # noqa: SLF001
    assert used == 8 * due_weights.compute_due_weight(DueKind.SESSION_CLOSE, 0)
    assert execution.finish().weight == 0, "what was paid for before makes weight no dearer"


def test_one_item_is_done_however_heavy_it_is() -> None:
    """Else a budget below it would stop the chain's deadlines for ever."""
    world = World()
    world.chain.expect_ok(world.workers[0], world.settle())
    set_budget(world, 100)
    world.chain.skip(20)
    assert not [kind for _, kind in list_due(world) if kind == DueKind.DRAW]


@pytest.mark.parametrize("kind", list(DueKind))
def test_every_kind_is_weighed(kind: DueKind) -> None:
    assert kind in due_weights.COSTS
    assert due_weights.compute_due_weight(kind, 1) > 0


def test_a_released_worker_is_forgotten_with_all_that_is_kept_of_it() -> None:
    """Registering and leaving leaves nothing behind: what is registered again is a stranger."""
    world = World(worker_unbonding_blocks=50, retention_blocks=100)
    worker = world.workers[0]
    key = worker.worker_key.public_key
    slots = [(key, bytes([number]) * 32, 0, number, 1) for number in range(40)]

    def write(state: Overlay) -> None:
        for slot in slots:
            inference.equivocations.add(state, *slot)
        inference.scores.write(state, key, 500)
        inference.jails.write(state, worker.account, 3)

    change_state(world, write)
    world.chain.expect_ok(worker, calls.RetireWorker(key))
    events = world.chain.skip(50)
    assert pick(events, WorkerReleased)
    assert queries.read_worker(world.chain.state, key) is not None
    world.chain.skip(101)
    assert queries.read_worker(world.chain.state, key) is None
    for place in (inference.scores, inference.left_ranges, inference.workers):
        assert place.read(world.chain.state, key) is None
    assert inference.jails.read(world.chain.state, worker.account) is None
    assert not list(inference.equivocations.iterate(world.chain.state, key))
    assert not list(inference.workers_by_operator.iterate(world.chain.state, worker.account))
    world.chain.expect_ok(worker, world.register_worker(worker, 0, 2))
    again = queries.read_worker(world.chain.state, key)
    assert again is not None
    assert (again.status, again.passes) == (WorkerStatus.ACTIVE, 0)


def test_a_jail_outlives_no_worker_early() -> None:
    """An operator in jail cannot leave it by having its last worker forgotten."""
    world = World(worker_unbonding_blocks=50, retention_blocks=100)
    worker = world.workers[0]
    key = worker.worker_key.public_key
    until = world.chain.height + 300
    change_state(world, lambda state: inference.jails.write(state, worker.account, until))
    world.chain.expect_ok(worker, calls.RetireWorker(key))
    world.chain.skip(151)
    assert inference.read_jail(world.chain.state, worker.account) == until
    assert queries.read_worker(world.chain.state, key) is not None
    world.chain.skip(300)
    assert inference.jails.read(world.chain.state, worker.account) is None
    assert queries.read_worker(world.chain.state, key) is None


def test_verifiers_that_stand_for_no_election_are_forgotten() -> None:
    world = World(validators=("alice", "bob"), retention_blocks=100)
    bob, alice = get_dev_identity("bob"), get_dev_identity("alice")
    change_state(world, lambda state: inference.silences.write(state, bob.account, 7))
    world.chain.skip(100)
    assert inference.verifiers.contains(world.chain.state, world.model, bob.account), "as long as it is a candidate"
    change_state(world, lambda state: staking.candidates.delete(state, bob.account))
    world.chain.skip(120)
    assert not inference.verifiers.contains(world.chain.state, world.model, bob.account)
    assert inference.silences.read(world.chain.state, bob.account) is None
    assert inference.verifiers.contains(world.chain.state, world.model, alice.account)


def test_a_blocks_due_work_is_all_there_is_when_it_fits() -> None:
    world = World()
    drawn = world.settle_and_draw(world.settle())
    assert len(drawn) == 3
    assert inference.due_from.read(world.chain.state) == 0
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert session.status == SessionStatus.OPEN


class Priced(DictState):
    """Counts reads, ranges and rows, as weights do."""

    def __init__(self, items: dict[bytes, bytes]) -> None:
        super().__init__(items)
        self.reads = self.seeks = self.rows = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        self.seeks += 1
        for item in super().iterate(prefix):
            self.rows += 1
            yield item


def price_block(world: World, items: dict[bytes, bytes]) -> tuple[int, int]:
    """(weight of the state's accesses in an empty block on these items, what it says that due work weighs)."""
    state = Priced(items)
    execution = BlockExecution(state, world.chain.context(), ())
    due_weight = execution._space.weight  # noqa: SLF001
    changes = len(execution.finish().changes)
    return price_cost((0, state.reads, state.seeks, state.rows, changes)) // 1_000, due_weight


def test_no_item_touches_more_of_the_state_than_it_weighs() -> None:
    """Through the whole life of requests, a session and a worker: work units, not time."""
    world = World(
        ("alice", "eve", "ferdie"),
        committee_size=3,
        fails_min=1,
        retention_blocks=100,
        worker_unbonding_blocks=60,
    )
    world.chain.expect_ok(world.workers[0], world.settle())
    world.chain.expect_ok(world.workers[0], world.settle(1, final=False))
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    world.chain.expect_ok(world.workers[1], calls.RetireWorker(world.workers[1].worker_key.public_key))
    seen: set[int] = set()
    for _ in range(260):
        height = world.chain.height + 1
        kinds = [kind for at, kind, _ in inference.due.iterate(world.chain.state, height)]
        if kinds:
            items = dict(world.chain.state.items)
            prefix = inference.due.key(height)
            idle = {key: value for key, value in items.items() if not key.startswith(prefix)}
            spent, weight = price_block(world, items)
            assert spent - price_block(world, idle)[0] <= weight, [DueKind(kind).name for kind in kinds]
            seen.update(kinds)
        world.chain.block()
    assert {DueKind.DRAW, DueKind.REVEAL, DueKind.SESSION_CLOSE, DueKind.FORGET_REQUEST, DueKind.FORGET_SESSION} <= seen
    assert {DueKind.WORKER_RELEASE, DueKind.FORGET_WORKER, DueKind.JOIN_END} <= seen
