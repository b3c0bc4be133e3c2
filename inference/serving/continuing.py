"""Whether an order may go on from another: what it does not bill has to be paid for by that one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.roots import validate_roots
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.calls import Settle
from proto_specs.types.manifest import TOKEN_BYTES, WireDtype
from proto_specs.types.request import (
    Order,
    PathStage,
    compute_request_id,
    compute_vouched_tokens,
    is_order_signed,
    is_voucher_signed,
)
from proto_specs.types.wire import FailureCode


def validate_settled(order: Order, settled: Settle, session_key: bytes) -> None:
    """Raises BoundaryError unless `settled` settles just the positions that the continuation does not bill.

    It is the settlement of the request that the order names, of the same session, model and answer, signed by the
    session key and by every stage of its path: whoever submits it is paid, so nobody works for nothing.
    """
    continuation, before = order.continuation, settled.order.order
    if continuation is None:
        raise BoundaryError("a settlement came with an order that goes on from none", FailureCode.BAD_ORDER)
    request = compute_request_id(before)
    stated = (request, before.session, before.model, before.answer_start)
    if stated != (continuation.request, order.session, order.model, order.answer_start):
        raise BoundaryError("the settlement is of another request than the one continued", FailureCode.BAD_ORDER)
    if before.epoch >= order.epoch or before.settled_positions >= order.settled_positions:
        raise BoundaryError("the settlement is not of an earlier part of the answer", FailureCode.BAD_ORDER)
    roots, voucher = settled.stage_roots, settled.voucher.voucher
    if not 0 < len(roots) == len(before.path) or roots[0].roots.positions != order.settled_positions:
        raise BoundaryError(f"{order.settled_positions} positions are not those it settles", FailureCode.BAD_ORDER)
    validate_roots(before, request, roots)
    if (voucher.request, voucher.tokens) != (request, compute_vouched_tokens(before, order.settled_positions)):
        raise BoundaryError("its voucher is not for the tokens of those positions", FailureCode.BAD_ORDER)
    if not is_order_signed(settled.order, session_key) or not is_voucher_signed(settled.voucher, session_key):
        raise BoundaryError("the session key signed neither order nor voucher of it", FailureCode.BAD_ORDER)


def validate_settled_tokens(order: Order, settled: Settle, prompt: bytes) -> None:
    """Raises BoundaryError unless the settled positions hold the first tokens of `prompt`, the order's (uint32 ids).

    So nothing but the answer itself goes on from what was paid. Whoever has the prompt can tell: the last stage.
    """
    log = BoundaryLog(compute_request_id(settled.order.order), 0, 1, WireDtype.TOKEN)
    window_bytes = WINDOW_POSITIONS * TOKEN_BYTES
    for start in range(0, order.settled_positions, WINDOW_POSITIONS):
        log.append(start, WINDOW_POSITIONS, prompt[start * TOKEN_BYTES :][:window_bytes])
        log.close_window(log.make_leaf(log.leaves), b"")
    if log.compute_root() != settled.stage_roots[0].roots.input_root:
        raise BoundaryError("the settlement is over other tokens than those of the order", FailureCode.BAD_ORDER)


def find_staying(path: Sequence[PathStage], settled: Settle) -> list[bytes]:
    """The workers of the settled order that are in `path` too. Without any nobody who goes on could submit it."""
    staying = {one.worker for one in path}
    return [one.worker for one in settled.order.order.path if one.worker in staying]


def find_submitter(order: Order, settled: Settle) -> bytes:
    """The worker that submits the settlement: the last stage of its path if that goes on, for it may hold one over
    more windows; else the first that goes on; zero when none does."""
    staying, last = find_staying(order.path, settled), settled.order.order.path[-1].worker
    if not staying:
        return bytes(32)
    return last if last in staying else staying[0]
