"""One request on a worker against time, lost links, full disks and floods: it ends, says why, and frees its memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio

from inference.errors import EngineError, GrammarError, ModelError
from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, StatementAwaited, ToStage
from inference.serving.events import Compute, Computed, DrawnToken
from inference.serving.record import RequestRecord
from inference.serving.setup import StageSetup
from inference.serving.window_store import SignedWindow
from node.client.link import LinkLost, make_failed
from node.worker import deadlines as module
from node.worker.active import INBOX_EVENTS_MAX, ActiveRequest
from node.worker.ends import HOLD_S
from node.worker.path_peers import PathPeers
from proto_specs.types.calls import Settle
from proto_specs.types.promise_calls import JoinSettlement
from proto_specs.types.request import Order
from proto_specs.types.wire import (
    Accepted,
    Countersign,
    Failed,
    FailureCode,
    Frame,
    OutputLeaf,
    Rows,
    VoucherFrame,
)
from tests.property.inference.serving.harness import HIDDEN, SESSION_KEY, WORKER_KEYS, make_manifest, make_order

PROMPT = tuple(range(100, 110))


@dataclass(eq=False)
class FakeLink:
    """What was sent over it."""

    peer_id: str
    is_lost: bool = False
    sent: list[Frame] = field(default_factory=list)
    on_send: Callable[[Frame], None] = lambda _frame: None

    def send(self, frame: Frame) -> None:
        if self.is_lost:
            raise LinkLost("gone")
        self.sent.append(frame)
        self.on_send(frame)

    def get_failure(self) -> FailureCode | None:
        codes = [FailureCode(one.code) for one in self.sent if isinstance(one, Failed)]
        return codes[-1] if codes else None


@dataclass
class FakeCompute:
    """Answers at once, or fails; knows whether memory is reserved."""

    open_requests: set[bytes] = field(default_factory=set)
    failure: ModelError | None = None
    refused: set[bytes] = field(default_factory=set)
    reply: Callable[[Computed | ModelError], None] = lambda _answer: None

    async def open(self, request: bytes, order: Order, prompt: bytes, grammar: bytes, reply) -> None:
        self.open_requests.add(request)
        self.sample_from, self.reply = order.prompt_tokens - 1, reply

    async def close(self, request: bytes) -> None:
        self.open_requests.discard(request)

    def check(self, payload: bytes) -> None:
        if payload in self.refused:
            raise EngineError("hidden states reach 1e+09")

    def submit(self, request: bytes, work: Compute) -> None:
        assert request in self.open_requests
        if self.failure is not None:
            self.reply(self.failure)
            return
        first = max(work.start, self.sample_from)
        tokens = tuple(DrawnToken(1000 + at, False) for at in range(first, work.start + work.count))
        self.reply(Computed(work.start, work.count, b"", bytes(4 * HIDDEN * work.count), tokens))


@dataclass
class FakeWindows:
    """Keeps windows in memory until it is deleted."""

    windows: list[SignedWindow] = field(default_factory=list)
    is_deleted: bool = False

    def put(self, window: SignedWindow) -> None:
        self.windows.append(window)

    def get(self, number: int) -> SignedWindow:
        return self.windows[number]

    def delete(self) -> None:
        self.is_deleted = True


@dataclass
class FakeArchive:
    """Keeps in memory; `during` runs while it writes."""

    records: list[RequestRecord] = field(default_factory=list)
    settlements: list[Settle] = field(default_factory=list)
    later: list[tuple[Settle, float]] = field(default_factory=list)
    held: list[Settle] = field(default_factory=list)
    parts: list[tuple[JoinSettlement, float]] = field(default_factory=list)
    left: list[bytes] = field(default_factory=list)
    failure: OSError | None = None
    during: Callable[[], Awaitable[None]] | None = None

    def open_windows(self, setup: StageSetup) -> FakeWindows:
        return FakeWindows()

    async def retain(self, record: RequestRecord) -> None:
        await trio.lowlevel.checkpoint()
        if self.during is not None:
            await self.during()
        if self.failure is not None:
            raise self.failure
        self.records.append(record)

    async def settle(self, request: bytes, call: Settle) -> bytes | None:
        self.settlements.append(call)
        return b"x" * 32

    async def hold(self, request: bytes, call: Settle) -> None:
        self.held.append(call)

    async def settle_later(self, request: bytes, call: Settle, wait_s: float) -> None:
        self.later.append((call, wait_s))

    def join_later(self, call: JoinSettlement | None, wait_s: float) -> None:
        if call is not None:
            self.parts.append((call, wait_s))

    def leave(self, request: bytes) -> None:
        self.left.append(request)


class Bench:
    """One stage of a path with its links. The client's machine answers on its link, unless it is told to be silent."""

    def __init__(self, stage: int = 0, stages: int = 1, tokens_max: int = 40, *, batched: bool = False) -> None:
        order = make_order(PROMPT, tokens_max, stages)
        self.machine = ClientRequest(order, PROMPT, SESSION_KEY, batched=batched)
        self.client = FakeLink("client")
        self.client.on_send = self._answer
        self.downstream = FakeLink(f"peer{stage + 1}") if stage < stages - 1 else None
        self.first = FakeLink("peer0") if 0 < stage == stages - 1 else None
        self.upstream = FakeLink(f"peer{stage - 1}")
        self.compute, self.archive = FakeCompute(), FakeArchive()
        peers = PathPeers(tuple(f"peer{at}" for at in range(stages)), self.client, self.downstream, self.first)  # type: ignore[arg-type]
        keys = (SESSION_KEY.public_key, WORKER_KEYS[stage])
        setup = StageSetup(order, stage, make_manifest(), *keys, batched=batched)
        self.active = ActiveRequest(setup, peers, self.compute, self.archive)  # type: ignore[arg-type]
        self.is_silent: Callable[[Frame], bool] = lambda _frame: False
        self.ends: list[object] = []

    @property
    def request(self) -> bytes:
        return self.active.request

    def _answer(self, frame: Frame) -> None:
        for effect in self.machine.handle(0, frame):
            if isinstance(effect, ToStage) and not self.is_silent(effect.frame):
                self.active.post(effect.frame, self.client)  # type: ignore[arg-type]
            elif isinstance(effect, SettlementSent | StatementAwaited | RequestFailed):
                self.ends.append(effect)

    async def run(self) -> float:
        """Run to the end; the seconds it took. Memory is free then."""
        started_s = trio.current_time()
        with trio.fail_after(10_000):
            await self.active.open()
            await self.active.run()
        assert self.compute.open_requests == set()
        return trio.current_time() - started_s


def make_rows(bench: Bench, boundary: int, start: int, count: int) -> Rows:
    return Rows(bench.request, boundary, start, count, bytes(count * 4 * HIDDEN))


async def test_an_honest_request_is_kept_and_settled(autojump_clock) -> None:
    bench = Bench()
    await bench.run()
    assert len(bench.archive.records) == len(bench.archive.settlements) == 1
    assert bench.active.is_settling
    assert isinstance(bench.ends[-1], SettlementSent)
    assert isinstance(bench.client.sent[0], Accepted)


async def test_a_client_that_signs_everything_and_leaves_at_once_is_still_billed(autojump_clock) -> None:
    """Its link ends before the request has looked at its last frames."""
    bench = Bench()

    def leave(frame: Frame) -> bool:
        if isinstance(frame, VoucherFrame) and frame.voucher.voucher.final:
            bench.active.post(frame, bench.client)  # type: ignore[arg-type]
            bench.client.is_lost = True
            bench.active.link_lost(bench.client)  # type: ignore[arg-type]
            return True
        return False

    bench.is_silent = leave
    await bench.run()
    assert bench.archive.settlements[0].voucher.voucher.final
    assert bench.active.is_settling


async def test_a_client_that_leaves_halfway_pays_what_it_vouched_for(autojump_clock) -> None:
    bench = Bench(tokens_max=100)

    def leave(frame: Frame) -> bool:
        if isinstance(frame, Countersign) and frame.window == 2:
            bench.client.is_lost = True
            bench.active.link_lost(bench.client)  # type: ignore[arg-type]
        return bench.client.is_lost

    bench.is_silent = leave
    await bench.run()
    assert bench.archive.settlements[0].voucher.voucher.tokens == 64 - len(PROMPT) + 1
    assert bench.archive.settlements[0].stage_roots[0].roots.positions == 64


@pytest.mark.parametrize(
    ("silent", "settled"),
    [
        (lambda frame: isinstance(frame, Rows), None),
        (lambda frame: isinstance(frame, OutputLeaf), None),
        (lambda frame: isinstance(frame, Countersign | VoucherFrame), None),
        (lambda frame: isinstance(frame, OutputLeaf) and frame.leaf.window == 2, 55),
        (lambda frame: isinstance(frame, VoucherFrame) and frame.voucher.voucher.final, 55),
    ],
)
async def test_what_the_client_owes_is_waited_for_and_no_longer(autojump_clock, silent, settled) -> None:
    bench = Bench(tokens_max=80)
    bench.is_silent = silent
    took_s = await bench.run()
    assert took_s == pytest.approx(module.CLIENT_S_MAX)
    assert bench.client.get_failure() == FailureCode.UNVOUCHED
    assert [one.voucher.voucher.tokens for one in bench.archive.settlements] == ([] if settled is None else [settled])


async def test_a_prompt_in_drops_is_not_waited_for(autojump_clock) -> None:
    bench = Bench()
    bench.is_silent = lambda frame: True

    async def drip() -> None:
        for position, token in enumerate(PROMPT[:-1]):
            row = Rows(bench.request, 0, position, 1, token.to_bytes(4, "little"))
            bench.active.post(row, bench.client)  # type: ignore[arg-type]
            await trio.sleep(20)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        assert await bench.run() == pytest.approx(module.CLIENT_S_MAX)
        nursery.cancel_scope.cancel()


async def test_silence_of_the_neighbours_ends_it(autojump_clock) -> None:
    bench = Bench(stage=1, stages=3)
    assert await bench.run() == pytest.approx(module.IDLE_S_MAX + HOLD_S)
    assert bench.client.get_failure() == FailureCode.NEIGHBOUR_LOST


async def test_a_neighbour_that_trickles_does_not_hold_memory_for_ever(autojump_clock) -> None:
    bench = Bench(stage=1, stages=3, tokens_max=1000)

    async def trickle() -> None:
        for position in range(1000):
            bench.active.post(make_rows(bench, 1, position % 128, 1), bench.upstream)  # type: ignore[arg-type]
            await trio.sleep(module.IDLE_S_MAX - 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        took_s = await bench.run()
        nursery.cancel_scope.cancel()
    assert took_s <= module.REQUEST_S_BASE + module.POSITION_S_MAX * 1010 + HOLD_S


@pytest.mark.parametrize("lost", ["downstream", "upstream", "first"])
async def test_a_neighbour_that_is_needed_and_lost_is_named(autojump_clock, lost: str) -> None:
    bench = Bench(stage=2 if lost == "first" else 1, stages=3)
    bench.active.post(make_rows(bench, bench.active.stage, 0, 1), bench.upstream)  # type: ignore[arg-type]
    link = getattr(bench, lost)
    link.is_lost = True
    bench.active.link_lost(link)
    await bench.run()
    (failed,) = [one for one in bench.client.sent if isinstance(one, Failed)]
    assert failed.code == FailureCode.NEIGHBOUR_LOST
    assert f"stage {({'downstream': 2, 'upstream': 0, 'first': 0})[lost]} (worker " in failed.message


async def test_a_full_disk_ends_this_request_alone(autojump_clock) -> None:
    bench = Bench()
    bench.archive.failure = OSError(28, "No space left on device")
    await bench.run()
    assert bench.client.get_failure() == FailureCode.INTERNAL
    assert bench.archive.settlements == []
    assert not bench.active.is_settling


async def test_frames_that_come_during_the_end_are_not_kept(autojump_clock) -> None:
    bench = Bench()

    async def flood() -> None:
        for _ in range(100):
            bench.active.post(make_rows(bench, 0, 0, 255), bench.client)  # type: ignore[arg-type]
        assert bench.active._inbox.waiting == 0  # noqa: SLF001

    bench.archive.during = flood
    await bench.run()
    assert bench.active.is_settling


async def test_a_flood_ends_the_request_with_its_reason(autojump_clock) -> None:
    bench = Bench()
    bench.is_silent = lambda frame: True
    for _ in range(INBOX_EVENTS_MAX + 10):
        bench.active.post(Countersign(bench.request, 1, 0, bytes(64)), bench.client)  # type: ignore[arg-type]
    await bench.run()
    assert bench.client.get_failure() == FailureCode.NO_CAPACITY


@pytest.mark.parametrize(
    ("failure", "code"),
    [(EngineError("broken"), FailureCode.INTERNAL), (GrammarError("it cannot go on"), FailureCode.BAD_ORDER)],
)
async def test_a_shard_that_fails_ends_the_request(autojump_clock, failure: ModelError, code: FailureCode) -> None:
    bench = Bench()
    bench.compute.failure = failure
    await bench.run()
    assert bench.client.get_failure() == code


async def test_rows_that_cannot_be_computed_are_not_signed_for(autojump_clock) -> None:
    """The attack: rows beyond the model's range make any honest output look wrong; nobody has to sign them."""
    bench = Bench(stage=1, stages=3)
    frame = make_rows(bench, 1, 0, 32)
    bench.compute.refused = {frame.payload}
    bench.active.post(frame, bench.upstream)  # type: ignore[arg-type]
    await bench.run()
    assert bench.client.get_failure() == FailureCode.BAD_INPUT
    assert not any(isinstance(one, Countersign) for one in bench.upstream.sent)


async def test_a_cancelled_worker_frees_the_memory(autojump_clock) -> None:
    bench = Bench(stage=1, stages=3)
    with trio.move_on_after(1):
        await bench.run()
    assert bench.compute.open_requests == set()


async def test_a_stop_along_the_path_waits_for_the_voucher_under_way(autojump_clock) -> None:
    bench = Bench(stage=2, stages=3)
    bench.active.post(make_failed(bench.request, FailureCode.CANCELLED, "gone"), FakeLink("peer1"))  # type: ignore[arg-type]
    assert await bench.run() == pytest.approx(module.STOP_GRACE_S)
    assert bench.client.get_failure() == FailureCode.CANCELLED


async def test_a_stopped_middle_stage_waits_for_roots_and_gives_up_in_the_end(autojump_clock) -> None:
    bench = Bench(stage=1, stages=3)
    bench.active.post(make_failed(bench.request, FailureCode.UNVOUCHED, "silent"), FakeLink("peer0"))  # type: ignore[arg-type]
    assert await bench.run() == pytest.approx(module.STOP_S_MAX)
    assert bench.downstream is not None
    assert isinstance(bench.downstream.sent[0], Failed)


async def test_a_neighbour_s_failure_ends_it_with_the_same_code(autojump_clock) -> None:
    bench = Bench(stage=1, stages=3)
    failed = make_failed(bench.request, FailureCode.NEIGHBOUR_LOST, "stage 2 went away")
    bench.active.post(failed, FakeLink("peer2"))  # type: ignore[arg-type]
    assert await bench.run() == pytest.approx(HOLD_S)
    assert bench.client.sent[-1] == failed
