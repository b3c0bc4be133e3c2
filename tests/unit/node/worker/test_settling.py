"""A last stage holds the settlement of a batched request that ran to its end, and settles every other at once."""

from __future__ import annotations

from inference.serving.client import SettlementSent, StatementAwaited
from node.worker.held import HELD_S
from node.worker.joins import SETTLED_BY_OTHERS_S
from proto_specs.types.wire import FailureCode, VoucherFrame
from tests.unit.node.worker.test_active import Bench


async def test_a_batched_request_ends_with_roots_and_is_held(autojump_clock) -> None:
    bench = Bench(batched=True)
    await bench.run()
    (end,) = bench.ends
    assert isinstance(end, StatementAwaited)
    assert (len(bench.archive.held), bench.archive.settlements) == (1, [])
    assert bench.active.is_settling
    ((_, wait_s),) = bench.archive.parts
    assert wait_s == SETTLED_BY_OTHERS_S + HELD_S, "no stage settles alone as long as a statement may come"
    assert bench.archive.records[0].voucher == bench.archive.held[0].voucher, "what it may have to show is with it"


async def test_another_settles_at_once(autojump_clock) -> None:
    bench = Bench()
    await bench.run()
    assert [type(one) for one in bench.ends] == [SettlementSent]
    assert (bench.archive.held, len(bench.archive.settlements)) == ([], 1)


async def test_a_batched_request_that_was_cut_short_settles_at_once(autojump_clock) -> None:
    bench = Bench(tokens_max=80, batched=True)
    bench.is_silent = lambda frame: isinstance(frame, VoucherFrame) and frame.voucher.voucher.final
    await bench.run()
    assert bench.client.get_failure() == FailureCode.UNVOUCHED
    assert (bench.archive.held, len(bench.archive.settlements)) == ([], 1)


async def test_a_client_that_is_gone_is_not_waited_for(autojump_clock) -> None:
    """Nobody would ask for the statement."""
    bench = Bench(batched=True)

    async def lose_client() -> None:
        bench.client.is_lost = True

    bench.archive.during = lose_client
    await bench.run()
    assert (bench.archive.held, len(bench.archive.settlements)) == ([], 1)
