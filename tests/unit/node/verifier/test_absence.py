"""The duty to report absent workers: when it probes, whom it reports, and that nothing of the chain's stops it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import trio
from trio.testing import MockClock

from node.client.chain_view import ChainUnreachable, WorkerEntry
from node.client.probing import WorkerUnreachable
from node.verifier.absence import PROBES_AT_ONCE_MAX, AbsenceDuty
from node.verifier.silence import FAILURES_MIN, SILENCE_S_MIN, SilenceBook, compute_period
from node.verifier.submissions import SubmissionRefused
from proto_specs.types.calls import Call, ReportAbsent
from tests.unit.node.worker.world import MODEL, make_chain

ACCOUNT = b"v" * 32
PERIOD = 5


@dataclass
class FakeChain:
    workers: dict[bytes, WorkerEntry]
    height: int = 0
    sent: list[Call] = field(default_factory=list)
    is_reachable: bool = True
    may: bool = True
    is_refusing: bool = False

    async def get_height(self) -> int:
        if not self.is_reachable:
            raise ChainUnreachable("no node")
        return self.height

    async def get_absence_blocks(self) -> int:
        return 6 * PERIOD

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        return tuple(one for one in self.workers.values() if one.model == model)

    async def may_report(self, worker: bytes) -> bool:
        return self.may and self.workers[worker].is_active

    async def submit(self, call: Call) -> bytes:
        if self.is_refusing:
            raise SubmissionRefused("no")
        self.sent.append(call)
        return b""


@dataclass
class FakeWorkers:
    silent: set[bytes] = field(default_factory=set)
    asked: Counter[bytes] = field(default_factory=Counter)

    async def ask(self, worker: WorkerEntry) -> None:
        self.asked[worker.worker] += 1
        if worker.worker in self.silent:
            raise WorkerUnreachable("silence")


@dataclass
class Scene:
    chain: FakeChain = field(default_factory=lambda: FakeChain(dict(make_chain().workers)))
    workers: FakeWorkers = field(default_factory=FakeWorkers)

    def __post_init__(self) -> None:
        self.duty = AbsenceDuty(ACCOUNT, self.chain, {MODEL}, self.workers.ask)
        self.dead = next(iter(self.chain.workers))

    async def run_periods(self, count: int, block_s: float = 3.0) -> None:
        for _ in range(count * PERIOD):
            self.chain.height += 1
            await trio.sleep(block_s)
            await self.duty.run_once()


@pytest.fixture(name="scene")
def fixture_scene() -> Scene:
    return Scene()


async def test_each_worker_is_probed_once_a_period_and_nobody_who_answers_is_reported(
    scene: Scene, autojump_clock: MockClock
) -> None:
    await scene.run_periods(4)
    assert set(scene.workers.asked) == set(scene.chain.workers)
    assert all(3 <= count <= 4 + 1 for count in scene.workers.asked.values())
    assert scene.chain.sent == []


async def test_a_silent_worker_is_reported_and_nobody_else(scene: Scene, autojump_clock: MockClock) -> None:
    scene.workers.silent = {scene.dead}
    await scene.run_periods(FAILURES_MIN - 1)
    assert scene.chain.sent == []
    await scene.run_periods(2)
    assert set(scene.chain.sent) == {ReportAbsent(scene.dead)}


async def test_probes_that_fail_within_a_moment_are_no_absence(scene: Scene, autojump_clock: MockClock) -> None:
    scene.workers.silent = {scene.dead}
    await scene.run_periods(2 * FAILURES_MIN, block_s=SILENCE_S_MIN / PERIOD / FAILURES_MIN / 4)
    assert scene.chain.sent == []


async def test_an_answer_starts_the_count_anew(scene: Scene, autojump_clock: MockClock) -> None:
    for _ in range(3):
        scene.workers.silent = {scene.dead}
        await scene.run_periods(FAILURES_MIN - 1)
        scene.workers.silent = set()
        await scene.run_periods(2)
    assert scene.chain.sent == []


async def test_who_is_absent_or_our_own_is_not_probed(scene: Scene, autojump_clock: MockClock) -> None:
    away, own = list(scene.chain.workers)[:2]
    scene.chain.workers[away] = replace(scene.chain.workers[away], is_active=False)
    scene.chain.workers[own] = replace(scene.chain.workers[own], operator=ACCOUNT)
    await scene.run_periods(2)
    assert scene.workers.asked.keys() == set(scene.chain.workers) - {away, own}


async def test_it_stops_when_the_status_changes_and_does_not_repeat_what_it_said(
    scene: Scene, autojump_clock: MockClock
) -> None:
    scene.workers.silent, scene.chain.may = {scene.dead}, False
    await scene.run_periods(2 * FAILURES_MIN)
    assert scene.chain.sent == []
    scene.chain.workers[scene.dead] = replace(scene.chain.workers[scene.dead], is_active=False)
    await scene.run_periods(1)
    before = scene.workers.asked[scene.dead]
    await scene.run_periods(3)
    assert scene.workers.asked[scene.dead] == before


async def test_a_node_that_fails_or_refuses_ends_nothing(scene: Scene, autojump_clock: MockClock) -> None:
    scene.workers.silent, scene.chain.is_refusing = {scene.dead}, True
    await scene.run_periods(FAILURES_MIN + 2)
    scene.chain.is_reachable = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.duty.run)
        await trio.sleep(5)
        scene.chain.is_reachable, scene.chain.is_refusing = True, False
        for _ in range(2 * PERIOD):
            scene.chain.height += 1
            await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert set(scene.chain.sent) == {ReportAbsent(scene.dead)}


async def test_so_many_are_asked_at_once_and_no_more(autojump_clock: MockClock) -> None:
    known = next(iter(make_chain().workers.values()))
    keys = [bytes([number]) * 32 for number in range(100)]
    chain, running, most = FakeChain({one: replace(known, worker=one) for one in keys}), 0, 0

    async def ask(worker: WorkerEntry) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    duty = AbsenceDuty(ACCOUNT, chain, {MODEL}, ask)
    chain.height = PERIOD - 1 + 10 * PERIOD
    await duty.run_once()
    assert most == PROBES_AT_ONCE_MAX


def test_probes_spread_over_the_period_s_blocks() -> None:
    book, keys, counts = SilenceBook(ACCOUNT), [bytes([one]) * 32 for one in range(200)], []
    for height in range(10 * PERIOD, 11 * PERIOD):
        counts.append(len(book.take_due(keys, height, PERIOD)))
    assert sum(counts) == len(keys)
    assert min(counts) > len(keys) // PERIOD // 2


def test_a_window_of_reports_holds_several_periods() -> None:
    for blocks in (1, 10, 30, 100_000):
        assert compute_period(blocks) >= 1
        assert compute_period(blocks) * FAILURES_MIN <= max(blocks, FAILURES_MIN)
