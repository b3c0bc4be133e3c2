"""Whether the chain would take the settlement that a continuation brings: else its positions are nobody's to pay."""

from __future__ import annotations

from inference.serving.continuing import find_staying
from node.client.chain_view import ChainUnreachable, ChainView, SessionEntry
from node.worker.refusal import OrderRefused
from proto_specs.order_rules import OrderInvalid, make_bounds, validate_order
from proto_specs.types.calls import Settle
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import Order, compute_request_id, compute_settled_price
from proto_specs.types.wire import FailureCode


async def check_settled(
    order: Order, settled: Settle | None, session: SessionEntry, manifest: Manifest, chain: ChainView
) -> None:
    """See `_check`. Raises OrderRefused, also where the chain does not answer."""
    try:
        await _check(order, settled, session, manifest, chain)
    except ChainUnreachable as error:
        raise OrderRefused(FailureCode.INTERNAL, f"this worker's node does not answer: {error}") from error


async def _check(
    order: Order, settled: Settle | None, session: SessionEntry, manifest: Manifest, chain: ChainView
) -> None:
    """Whoever has keys can sign an order over workers that are none, with roots over work that was never done.

    So it is on chain, or its path is of registered workers of the model, one of whom goes on and submits it, and its
    slice of the session pays it. Raises OrderRefused, ChainUnreachable.
    """
    if settled is None:
        return
    before, voucher = settled.order.order, settled.voucher.voucher
    if not find_staying(order.path, settled):
        shown = await chain.get_settled_positions(compute_request_id(before))
        if shown is None or shown < order.settled_positions:
            raise _refuse("it is not on chain, and no worker of its path goes on to submit it: bill these positions")
        return
    try:
        validate_order(before, make_bounds(manifest))
    except OrderInvalid as error:
        raise _refuse(str(error)) from error
    price = compute_settled_price(before, voucher.tokens, order.settled_positions)
    if not price <= before.slice_end - before.slice_start <= before.slice_end <= session.promisable:
        raise _refuse(f"its slice does not pay the {price} nmyl that it settles")
    is_apart = before.slice_end <= order.slice_start or order.slice_end <= before.slice_start
    if before.sequence == order.sequence or not is_apart:
        raise _refuse("only one of its order and this one could be paid")
    if any(max(one.prefill_price, one.decode_price) > session.max_price for one in before.path):
        raise _refuse("the session does not pay its prices")
    if len({one.worker for one in before.path}) < len(before.path):
        raise _refuse("a worker holds two stages of its path")
    for number, stage in enumerate(before.path):
        entry = await chain.get_worker(stage.worker)
        if entry is None or entry.model != order.model:
            raise _refuse(f"stage {number} of its path is no worker of the model")


def _refuse(why: str) -> OrderRefused:
    return OrderRefused(FailureCode.BAD_ORDER, f"the settlement of what the order does not bill: {why}")
