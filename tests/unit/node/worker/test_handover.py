"""A request that lost a stage on a worker: held, taken over, concluded; older orders and a zombie's frames refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from inference.serving.events import Compute, Conclude, GiveUp, Rewind
from node.client.link import make_failed
from node.worker.ends import HOLD_S
from node.worker.fence import Fence
from node.worker.handover import prepare_handover
from node.worker.refusal import OrderRefused
from node.worker.requests import Requests
from proto_specs.types.calls import Settle
from proto_specs.types.request import Continuation, Order, SignedOrder, compute_request_id, sign_order
from proto_specs.types.wire import Failed, FailureCode, Frame, OpenRequest, Ping, Pong, Rows, VoucherFrame
from tests.property.inference.serving.harness import HIDDEN, SESSION_KEY, WORKER_KEYS
from tests.unit.node.worker.test_active import PROMPT, Bench, FakeArchive, FakeLink

WORKER = WORKER_KEYS[0].public_key


def go_on(before: Order, epoch: int = 1, settled: int = 0) -> SignedOrder:
    """An order that continues another."""
    going_on = Continuation(compute_request_id(before), epoch, len(PROMPT), settled)
    changed = replace(before, sequence=epoch, prompt_tokens=72, tokens_max=8, continuation=going_on)
    return sign_order(changed, SESSION_KEY)


def lose_after(bench: Bench, windows: int) -> None:
    """The client leaves for another path once it has vouched for so many windows, and all roots over them came."""

    def leave(frame: Frame) -> bool:
        if bench.active.machine.prefix_windows >= windows:
            moved = make_failed(bench.request, FailureCode.MOVED, "the client goes on elsewhere")
            bench.active.post(moved, bench.client)  # type: ignore[arg-type]
            return True
        return False

    bench.is_silent = leave


async def test_a_held_request_is_settled_by_its_prefix_when_nobody_goes_on(autojump_clock) -> None:
    bench = Bench(tokens_max=100)
    lose_after(bench, 2)
    assert await bench.run() == pytest.approx(HOLD_S)
    (settle,), record = bench.archive.settlements, bench.archive.records[-1]
    assert settle.stage_roots[0].roots.windows == len(record.output_leaves) == 2
    assert settle.voucher.voucher.tokens == 64 - len(PROMPT) + 1
    assert not settle.voucher.voucher.final
    assert bench.active.is_settling


@pytest.mark.parametrize("told", [Conclude(0), Conclude(1), Conclude(2)])
async def test_a_concluded_request_keeps_all_that_it_signed_and_settles_nothing(autojump_clock, told: Conclude) -> None:
    """Another of the path has the roots over both windows, and may settle them whatever the next order says."""
    bench = Bench(tokens_max=100)
    lose_after(bench, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await trio.sleep(HOLD_S / 2)
        assert bench.compute.open_requests == {bench.request}, "its memory is held"
        assert bench.active.conclude(told)
    assert trio.current_time() < HOLD_S
    assert bench.archive.settlements == []
    assert {len(one.output_leaves) for one in bench.archive.records} == {2}
    assert not bench.active.conclude(told), "it is over"


async def test_the_submitter_settles_what_the_next_order_says(autojump_clock) -> None:
    bench = Bench(tokens_max=100)
    lose_after(bench, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await trio.sleep(1)
        settlement = bench.machine.make_settlement()
        assert settlement is not None
        bench.active.conclude(Conclude(settlement.stage_roots[0].roots.windows, settlement))
    assert bench.archive.settlements == [settlement]


@pytest.mark.parametrize("code", [FailureCode.UNVOUCHED, FailureCode.CANCELLED, FailureCode.NO_CAPACITY])
async def test_what_a_stage_has_signed_it_keeps_on_every_way_out(autojump_clock, code: FailureCode) -> None:
    """It gives up for good, and holds nothing; others of its path settle by its roots, and a verifier asks for them."""
    bench = Bench(tokens_max=100)

    def leave(frame: Frame) -> bool:
        if bench.active.machine.prefix_windows >= 1:
            bench.active._put(GiveUp(code, "for a reason"))  # noqa: SLF001
            return True
        return False

    bench.is_silent = leave
    assert await bench.run() == 0
    assert {len(one.output_leaves) for one in bench.archive.records} == {1}
    assert len(bench.archive.settlements) == 1


async def test_a_request_cut_to_fewer_windows_than_it_signed_opens_them_all(autojump_clock) -> None:
    """The attack: a client countersigns two windows and vouches for one, cancels, and has a friend settle both."""
    bench = Bench(tokens_max=100)
    is_vouched = False

    def hold_vouchers_back(frame: Frame) -> bool:
        nonlocal is_vouched
        if isinstance(frame, VoucherFrame):
            is_late, is_vouched = is_vouched, True
            return is_late
        if bench.active.machine.prefix_windows == 2:
            cancelled = make_failed(bench.request, FailureCode.CANCELLED, "cancelled")
            bench.active.post(cancelled, bench.client)  # type: ignore[arg-type]
            return True
        return False

    bench.is_silent = hold_vouchers_back
    await bench.run()
    (settle,), (record,) = bench.archive.settlements, bench.archive.records
    assert settle.stage_roots[0].roots.windows == 1
    assert len(record.output_leaves) == 2


async def test_a_frozen_request_does_nothing_until_it_is_concluded(autojump_clock) -> None:
    """Its memory is with another: rows that still come must not be computed, nor break it."""
    bench = Bench(stage=1, stages=3, tokens_max=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await trio.sleep(1)
        bench.active.freeze()
        bench.compute.open_requests.clear()  # the other has it
        rows = Rows(bench.request, 1, 0, 32, bytes(32 * 4 * HIDDEN))
        bench.active.post(rows, bench.upstream)  # type: ignore[arg-type]
        bench.active.link_lost(bench.downstream)  # type: ignore[arg-type]
        await trio.sleep(1)
        assert not any(isinstance(one, Rows | Failed) for one in bench.downstream.sent)
        bench.active.conclude(Conclude(0))
    assert trio.current_time() == pytest.approx(2)


async def test_a_request_whose_successor_was_not_taken_is_held_for_another(autojump_clock) -> None:
    bench = Bench(stage=1, stages=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await trio.sleep(1)
        bench.active.freeze()
        bench.active.abandon("the order that goes on from it was not taken")
    assert trio.current_time() == pytest.approx(1 + HOLD_S)
    assert bench.client.get_failure() == FailureCode.MOVED


async def test_pings_are_answered_while_it_is_held(autojump_clock) -> None:
    bench = Bench(tokens_max=100)
    bench.compute.steps, bench.compute.pass_ms = 7, 30
    lose_after(bench, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await trio.sleep(1)
        bench.active.post(Ping(bench.request, 5), bench.client)  # type: ignore[arg-type]
        pong = bench.client.sent[-1]
        assert isinstance(pong, Pong)
        assert (pong.request, pong.nonce, pong.steps, pong.pass_ms) == (bench.request, 5, 7, 30)
        assert pong.received >= pong.computed >= 32


# Orders that go on, as a worker sees them ----------------------------------------------------------------------------


def prepare(order: SignedOrder, requests: Requests, fence: Fence | None = None, settled: Settle | None = None) -> Any:
    opened = OpenRequest(order, settled=settled)
    return prepare_handover(opened, SESSION_KEY.public_key, WORKER, requests, fence or Fence())


async def test_an_order_of_the_same_or_an_older_epoch_is_refused() -> None:
    requests, first, second = Requests(), Bench(stages=3), Bench(stages=3)
    requests.add(first.active)
    order = first.active.order
    newer = go_on(order, epoch=5)
    second.active._setup = replace(second.active._setup, order=newer)  # noqa: SLF001
    second.active.request = compute_request_id(newer.order)
    requests.add(second.active)
    for epoch in (1, 4, 5):
        with pytest.raises(OrderRefused, match="epoch 5"):
            prepare(go_on(order, epoch), requests)
    handover = prepare(go_on(order, epoch=6), requests)
    assert handover.before == (second.active, first.active)
    assert handover.memory_of == second.active.request


async def test_requests_of_other_sessions_and_answers_are_left_alone() -> None:
    requests, other = Requests(), Bench(stages=3)
    requests.add(other.active)
    foreign = go_on(replace(other.active.order, session=b"s" * 32))
    unrelated = go_on(replace(other.active.order, sequence=77))
    for order in (foreign, unrelated):
        handover = prepare(order, requests)
        assert handover.before == ()
        assert handover.memory_of is None
        assert handover.get_kept() is None


async def test_windows_that_this_stage_has_not_signed_are_not_settled_here(autojump_clock) -> None:
    bench = Bench(tokens_max=100)
    lose_after(bench, 2)
    await bench.run()
    settlement = bench.archive.settlements[0]
    order = go_on(bench.active.order, settled=64)
    requests, young = Requests(), Bench(tokens_max=100)
    requests.add(young.active)
    assert young.request == bench.request
    with pytest.raises(OrderRefused, match="0 are signed here"):
        prepare(order, requests, settled=settlement)
    assert prepare(order, Requests(), settled=settlement).is_submitter


async def test_a_settlement_whose_request_is_over_here_is_sent_all_the_same(autojump_clock) -> None:
    """The hold ended before the order that goes on came."""
    bench = Bench(tokens_max=100)
    lose_after(bench, 2)
    await bench.run()
    settlement, archive = bench.archive.settlements[0], FakeArchive()
    requests = Requests()
    requests.add(bench.active)
    handover = prepare(go_on(bench.active.order, settled=64), requests, settled=settlement)
    handover.freeze()
    await handover.complete(archive)
    assert archive.later == [(settlement, 0.0)]


async def test_a_zombie_s_frames_reach_no_other_request(autojump_clock) -> None:
    """A worker that was cut off is back, and sends rows of the request that is over; its successor runs."""
    requests, old, new = Requests(), Bench(stage=1, stages=3), Bench(stage=1, stages=3, tokens_max=41)
    zombie = FakeLink("peer0")
    async with trio.open_nursery() as nursery:
        await new.active.open()
        requests.add(new.active)
        nursery.start_soon(requests.run, new.active)
        await trio.sleep(1)
        assert old.request not in requests
        rows = Rows(old.request, 1, 0, 1, bytes(4 * HIDDEN))
        requests.route(rows, zombie)  # type: ignore[arg-type]
        requests.route(Failed(old.request, FailureCode.NEIGHBOUR_LOST, "lost", 1), zombie)  # type: ignore[arg-type]
        await trio.sleep(1)
        assert zombie.get_failure() == FailureCode.INTERNAL
        assert len(zombie.sent) == 1
        assert new.active.machine.progress == (0, 0)
        assert new.client.get_failure() is None
        nursery.cancel_scope.cancel()


async def test_work_that_was_left_when_it_froze_is_not_submitted() -> None:
    """The memory is with another order by then: the shard knows this request no more."""
    bench = Bench(stage=1, stages=3)
    bench.active.freeze()
    await bench.active._perform(Compute(0, 1, bytes(4 * HIDDEN)))  # noqa: SLF001
    await bench.active._perform(Rewind(0))  # noqa: SLF001
