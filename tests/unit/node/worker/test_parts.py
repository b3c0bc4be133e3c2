"""What a running request leaves for settling alone: its part, with the record that opens it."""

from __future__ import annotations

from node.worker.ends import HOLD_S
from node.worker.joins import SETTLED_BY_OTHERS_S
from proto_specs.types.wire import FailureCode, Frame, VoucherFrame
from tests.unit.node.worker.test_active import Bench


async def test_a_finished_request_leaves_what_others_settle_too(autojump_clock) -> None:
    bench = Bench()
    await bench.run()
    ((part, wait_s),) = bench.archive.parts
    assert part.voucher is not None
    assert part.voucher.voucher.final
    assert part.stage_roots[0] in bench.archive.settlements[0].stage_roots
    assert (bench.archive.records[0].voucher, wait_s) == (part.voucher, SETTLED_BY_OTHERS_S)


async def test_a_request_that_is_given_up_keeps_its_part_before_anything_else(autojump_clock) -> None:
    """While it waits for an order that goes on, a friend of the client may settle it for less."""
    bench = Bench(tokens_max=100)

    def lose(frame: Frame) -> bool:
        if isinstance(frame, VoucherFrame) and frame.voucher.voucher.tokens > 20:
            bench.active.post(frame, bench.client)  # type: ignore[arg-type]
            bench.active.give_up(FailureCode.NEIGHBOUR_LOST, "a stage is gone")
            return True
        return False

    bench.is_silent = lose
    await bench.run()
    ((part, wait_s),) = bench.archive.parts
    assert part.voucher is not None
    assert part.voucher.voucher.tokens > 20
    assert wait_s == HOLD_S + SETTLED_BY_OTHERS_S
    assert len(bench.archive.records[0].output_leaves) == part.stage_roots[0].roots.windows > 0
