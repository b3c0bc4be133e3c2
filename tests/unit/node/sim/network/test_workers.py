"""A simulated worker: passes of many rows, KV memory that is reserved and held, and what falls with it."""

from __future__ import annotations

import random

import pytest

from node.sim.network.events import VirtualTime
from node.sim.network.workers import DECODE_SHARE, PREFILL_SHARE, SimWorker, WorkerState
from node.sim.network.world import Rig, Spot
from node.worker.ends import HOLD_S
from proto_specs.types.wire import FailureCode

RIG = Rig(Spot(0, 0.0, 0.0, 1.0), 8 * 10**9, 1_000, 10, 1e6, 1_000, False)


class Order:
    """Notes what is computed for it."""

    def __init__(self, virtual: VirtualTime) -> None:
        self.is_over = False
        self.stages: list[SimWorker] = []
        self.computed: list[tuple[float, int, bool]] = []
        self._virtual = virtual

    def note_computed(self, stage: int, rows: int, is_decode: bool) -> None:
        self.computed.append((self._virtual.now_s, rows, is_decode))

    def note_reset(self, stage: int) -> None:
        self.is_over = True


@pytest.fixture
def virtual() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def worker(virtual: VirtualTime) -> SimWorker:
    return SimWorker(virtual, random.Random(0), b"w" * 32, RIG, 0, 10)


def test_a_pass_takes_all_decode_rows_and_one_chunk(virtual: VirtualTime, worker: SimWorker) -> None:
    order = Order(virtual)
    for rows, is_decode in ((1, True), (1, True), (64, False), (1, True), (64, False)):
        worker.take(order, 0, rows, is_decode)
    virtual.run(10.0)
    first = worker.row_s
    second = first + worker.row_s * (1 + DECODE_SHARE + 64 * PREFILL_SHARE)
    third = second + worker.row_s * (1 + 64 * PREFILL_SHARE)
    assert [(pytest.approx(at), rows) for at, rows, _ in order.computed] == [
        (first, 1),
        (second, 1),
        (second, 1),
        (second, 64),
        (third, 64),
    ]


def test_memory_is_reserved_adopted_and_held(virtual: VirtualTime, worker: SimWorker) -> None:
    one, then, other = Order(virtual), Order(virtual), Order(virtual)
    assert worker.reserve("request", one, 600) == (None, False)
    assert worker.reserve("other", other, 600) == (FailureCode.NO_CAPACITY, False)
    worker.leave_order("request", one, FailureCode.MOVED)
    virtual.run(HOLD_S - 1)
    assert worker.reserve("request", then, 700) == (None, True)
    virtual.run(HOLD_S + 1)
    assert worker.kv_used == 700  # the hold of the order before does not release what another one owns
    worker.leave_order("request", then, None)
    assert worker.kv_used == 0
    assert worker.reserve("other", other, 600) == (None, False)


def test_what_is_held_is_released_in_time(virtual: VirtualTime, worker: SimWorker) -> None:
    order = Order(virtual)
    worker.reserve("request", order, 600)
    worker.leave_order("request", order, FailureCode.MOVED)
    virtual.run(HOLD_S + 1)
    assert worker.kv_used == 0


def test_a_worker_that_leaves_takes_only_what_it_knows(virtual: VirtualTime, worker: SimWorker) -> None:
    order = Order(virtual)
    worker.reserve("request", order, 100)
    worker.state = WorkerState.LEAVING
    assert worker.reserve("request", order, 100) == (None, True)
    assert worker.reserve("new", order, 100) == (FailureCode.LEAVING, False)


def test_what_is_under_way_falls_with_it(virtual: VirtualTime, worker: SimWorker) -> None:
    order = Order(virtual)
    worker.orders[order] = 3
    worker.take(order, 3, 1, True)
    assert worker.fall(WorkerState.DEAD) == [(order, 3)]
    virtual.run(10.0)
    assert order.computed == []
    worker.take(order, 3, 1, True)
    virtual.run(20.0)
    assert order.computed == []


def test_a_stuck_worker_answers_and_computes_nothing(virtual: VirtualTime, worker: SimWorker) -> None:
    order = Order(virtual)
    worker.fall(WorkerState.STUCK)
    worker.take(order, 0, 1, True)
    virtual.run(10.0)
    assert worker.is_reachable
    assert order.computed == []
