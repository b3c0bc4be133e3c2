"""A client vouched for an answer and wants it for nothing: it says that a stage was lost, and goes on, or does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from node.worker.ends import HOLD_S
from node.worker.fence import Fence
from node.worker.handover import LAST_STAGE_S, Takeover, prepare_handover
from node.worker.requests import Requests
from proto_specs.types.calls import Settle
from proto_specs.types.request import Voucher, compute_vouched_tokens, sign_voucher
from proto_specs.types.wire import Frame, OpenRequest, VoucherFrame
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS
from tests.unit.node.worker.test_active import PROMPT, Bench, FakeArchive
from tests.unit.node.worker.test_handover import WORKER, go_on, lose_after


@pytest.mark.parametrize("short", [1, 3, 20])
async def test_vouchers_that_fit_no_window_are_worth_what_they_say(autojump_clock, short: int) -> None:
    """The attack: it never vouches for just the tokens of whole windows, and leaves before the end."""
    bench = Bench(tokens_max=200)
    lose_after(bench, 4)
    leave = bench.is_silent
    vouched = 0

    def vouch_for_fewer(frame: Frame) -> bool:
        nonlocal vouched
        if leave(frame):
            return True
        promised = frame.voucher.voucher if isinstance(frame, VoucherFrame) else None
        if promised is None or promised.tokens <= short:
            return promised is not None
        vouched = promised.tokens - short
        told = Voucher(bench.request, vouched, bench.machine._tokens_hashes[vouched], False)  # noqa: SLF001
        bench.active.post(VoucherFrame(sign_voucher(told, SESSION_KEY)), bench.client)  # type: ignore[arg-type]
        return True

    bench.is_silent = vouch_for_fewer
    assert await bench.run() == pytest.approx(HOLD_S)
    (settle,) = bench.archive.settlements
    assert settle.stage_roots[0].roots.windows == 4
    assert settle.voucher.voucher.tokens == 4 * 32 - len(PROMPT) + 1 - short


async def hold(bench: Bench, nursery: trio.Nursery) -> Requests:
    lose_after(bench, 3)
    nursery.start_soon(bench.run)
    await trio.sleep(1)
    assert bench.active.machine.prefix_windows == 3
    requests = Requests()
    requests.add(bench.active)
    return requests


def cut_settlement(bench: Bench, windows: int) -> Settle:
    """What the client says that it has of the order before: less than its vouchers cover."""
    own = bench.active.machine.get_settlement()
    assert own is not None
    machine, positions = bench.active.machine, 32 * windows
    root = machine._pledges.sign_roots(positions)  # noqa: SLF001
    tokens = compute_vouched_tokens(own.order.order, positions)
    told = Voucher(bench.request, tokens, bench.machine._tokens_hashes[tokens], False)  # noqa: SLF001
    return Settle(own.order, sign_voucher(told, SESSION_KEY), (root,))


@pytest.mark.parametrize("windows", [0, 1, 2])
async def test_an_order_that_settles_less_than_was_vouched_for_costs_the_last_stage_nothing(
    autojump_clock, windows: int
) -> None:
    """The attack: take most of an answer, go on from it by an order that settles nothing of it, and cancel that."""
    bench = Bench(tokens_max=200)
    async with trio.open_nursery() as nursery:
        requests = await hold(bench, nursery)
        settled = cut_settlement(bench, windows) if windows else None
        opened = OpenRequest(go_on(bench.active.order, settled=32 * windows), settled=settled)
        handover = prepare_handover(opened, SESSION_KEY.public_key, WORKER, requests, Fence())
        handover.freeze()
        await handover.complete(bench.archive)
    assert bench.archive.later == []
    (settle,) = bench.archive.settlements
    assert settle.stage_roots[0].roots.windows == 3
    assert settle.voucher.voucher.tokens == 3 * 32 - len(PROMPT) + 1


async def test_a_last_stage_that_was_left_out_settles_first(autojump_clock) -> None:
    """The attack: the last stage is said to be lost, and another one settles one window at once. It waits instead."""
    bench, archive = Bench(tokens_max=200), FakeArchive()
    async with trio.open_nursery() as nursery:
        await hold(bench, nursery)
        settled = cut_settlement(bench, 1)
        path = settled.order.order.path
        others = replace(settled.order.order, path=(*path, replace(path[0], worker=WORKER_KEYS[2].public_key)))
        takeover = Takeover((), replace(settled, order=replace(settled.order, order=others)), WORKER, True)
        await takeover.complete(archive)
        assert [wait_s for _, wait_s in archive.later] == [LAST_STAGE_S]
        assert LAST_STAGE_S > HOLD_S
        assert archive.settlements == []
