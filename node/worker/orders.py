"""Whether a worker takes an order: everything is checked against the chain before a byte of memory is reserved.

This refuses everything that would make the settlement fail on chain: work that cannot be settled is unpaid, and a
client that knew such a way would never pay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from node.client.chain_view import AdmissionView, ChainView, SessionEntry, WorkerEntry
from node.worker.outstanding import Outstanding
from node.worker.refusal import OrderRefused
from node.worker.together import run_each
from proto_specs.order_rules import OrderInvalid, make_bounds, validate_order
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import (
    Order,
    PathStage,
    SignedOrder,
    compute_billed_price,
    compute_price_max,
    is_order_signed,
)
from proto_specs.types.wire import FailureCode


@dataclass(frozen=True, slots=True)
class OrderAdmission:
    """An accepted and counted order: this worker's stage, the payer, and the workers of the path."""

    stage: int
    session: SessionEntry
    path: tuple[WorkerEntry, ...]


async def admit_order(
    signed: SignedOrder, own: WorkerEntry, manifest: Manifest, chain: AdmissionView, outstanding: Outstanding
) -> OrderAdmission:
    """Check an order and reserve its price in `outstanding`, which the caller releases or ends.

    Raises OrderRefused with the reason, ChainUnreachable; nothing is reserved then.
    """
    order = signed.order
    if order.genesis != chain.genesis:
        raise OrderRefused(FailureCode.BAD_ORDER, "the order is for another chain")
    if order.model != own.model:
        raise OrderRefused(FailureCode.UNKNOWN_MODEL, f"model {order.model.hex()[:16]} is not served here")
    stage = _find_stage(order, own)
    try:
        validate_order(order, make_bounds(manifest))
    except OrderInvalid as error:
        raise OrderRefused(FailureCode.BAD_ORDER, str(error)) from error
    price, size = compute_price_max(order), order.slice_end - order.slice_start
    if price > size:
        raise OrderRefused(FailureCode.BAD_ORDER, f"the request may cost {price} nmyl, its slice is of {size}")
    await outstanding.check_settles(order.session, chain)
    asked: list[Callable[[], Awaitable[SessionEntry | None]]]
    asked = [partial(chain.get_session, order.session), partial(_check_sequence, order, chain)]
    session = _check_session(signed, (await run_each(asked))[0])
    try:
        outstanding.reserve(order, session)
    except OrderRefused:  # perhaps only because what is settled by now is still counted
        if not await outstanding.forget(order.session, chain):
            raise
        session = _check_session(signed, await chain.get_session(order.session))
        outstanding.reserve(order, session)
    try:
        path = await run_each([partial(_read_worker, order, number, chain) for number in range(len(order.path))])
        await _check_judgeable(order, session, [one.operator for one in path], chain)
    except BaseException:
        outstanding.release(order)
        raise
    return OrderAdmission(stage, session, tuple(path))


def _find_stage(order: Order, own: WorkerEntry) -> int:
    mine = [number for number, one in enumerate(order.path) if one.worker == own.worker]
    if len(mine) != 1:
        raise OrderRefused(FailureCode.NOT_MY_STAGE, "this worker is not exactly one stage of the path")
    one = order.path[mine[0]]
    if (one.start, one.end) != (own.start, own.end):
        raise OrderRefused(FailureCode.NOT_MY_STAGE, f"this worker serves layers {own.start}-{own.end - 1}")
    _check_asked(one, own)
    return mine[0]


async def _check_sequence(order: Order, chain: ChainView) -> None:
    if await chain.is_sequence_used(order.session, order.sequence):
        raise OrderRefused(FailureCode.BAD_ORDER, f"request {order.sequence} of the session is settled")


def _check_session(signed: SignedOrder, session: SessionEntry | None) -> SessionEntry:
    order = signed.order
    if session is None or not session.is_open:
        raise OrderRefused(FailureCode.NO_ESCROW, "the session is not open on chain (yet), or about to close")
    if session.model != order.model:
        raise OrderRefused(FailureCode.BAD_ORDER, "the session is for another model")
    if any(max(one.prefill_price, one.decode_price) > session.max_price for one in order.path):
        most = session.max_price
        raise OrderRefused(FailureCode.BAD_ORDER, f"the session pays {most} nmyl per layer and token at most")
    if not is_order_signed(signed, session.session_key):
        raise OrderRefused(FailureCode.BAD_ORDER, "the order is not signed by the session key")
    return session


async def _read_worker(order: Order, number: int, chain: ChainView) -> WorkerEntry:
    stage = order.path[number]
    entry = await chain.get_worker(stage.worker)
    if entry is None or not entry.is_active or entry.model != order.model:
        raise OrderRefused(FailureCode.BAD_ORDER, f"stage {number} is not an active worker of the model")
    if (entry.start, entry.end) != (stage.start, stage.end):
        raise OrderRefused(FailureCode.BAD_ORDER, f"stage {number} serves other layers than the order says")
    _check_asked(stage, entry)
    if compute_billed_price(order, stage, order.tokens_max, order.prompt_tokens) > entry.gross_max:
        raise OrderRefused(FailureCode.BAD_ORDER, f"the bond of stage {number} bears {entry.gross_max} nmyl a request")
    return entry


async def _check_judgeable(
    order: Order, session: SessionEntry, operators: Sequence[bytes], chain: AdmissionView
) -> None:
    stage = await chain.find_unjudgeable(order.model, session.client, operators)
    if stage is not None:
        reason = (
            f"too few of the model's verifiers could judge stage {stage} (its neighbours and the client may not): "
            "choose others beside it, or wait for more verifiers"
        )
        raise OrderRefused(FailureCode.BAD_ORDER, reason)


def _check_asked(stage: PathStage, worker: WorkerEntry) -> None:
    if stage.prefill_price < worker.prefill_price or stage.decode_price < worker.decode_price:
        asked = f"{worker.prefill_price} (prefill) and {worker.decode_price} (decode) nmyl per layer and token"
        raise OrderRefused(FailureCode.PRICE_TOO_LOW, f"worker {worker.worker.hex()[:12]} asks {asked}")
