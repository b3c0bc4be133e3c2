"""Whether a worker takes an order: everything is checked against the chain before a byte of memory is reserved."""

from __future__ import annotations

from collections import Counter

from node.serving.chain import ChainView, SessionEntry, WorkerEntry
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import (
    Order,
    SignedOrder,
    compute_positions,
    compute_stage_price,
    is_order_signed,
)
from proto_specs.types.wire import FailureCode


class OrderRefused(Exception):
    """The order is not taken. `code` and the message go to the client."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Outstanding:
    """What sessions owe for requests under way here, which the chain does not know yet."""

    def __init__(self) -> None:
        self._owed: Counter[bytes] = Counter()

    def get(self, session: bytes) -> int:
        """nmyl owed by a session."""
        return self._owed[session]

    def add(self, order: Order) -> None:
        """A request begins."""
        self._owed[order.session] += compute_price_max(order)

    def remove(self, order: Order) -> None:
        """A request ends."""
        self._owed[order.session] -= compute_price_max(order)
        if not self._owed[order.session]:
            del self._owed[order.session]


def compute_price_max(order: Order) -> int:
    """What the whole path may cost at most, in nmyl."""
    return sum(compute_stage_price(stage, order.prompt_tokens, order.tokens_max) for stage in order.path)


async def admit_order(
    signed: SignedOrder, own: WorkerEntry, manifest: Manifest, chain: ChainView, outstanding: Outstanding
) -> tuple[int, SessionEntry, tuple[WorkerEntry, ...]]:
    """This worker's stage, the session, and the workers of the path. Raises OrderRefused with the reason."""
    order = signed.order
    if order.genesis != chain.genesis:
        raise OrderRefused(FailureCode.BAD_ORDER, "the order is for another chain")
    if order.model != own.model:
        raise OrderRefused(FailureCode.UNKNOWN_MODEL, f"model {order.model.hex()[:16]} is not served here")
    stage = _find_stage(order, own)
    _check_lengths(order, manifest)
    session = await chain.get_session(order.session)
    if session is None or not session.is_open:
        raise OrderRefused(FailureCode.NO_ESCROW, "the session is not open on chain (yet)")
    if session.model != order.model:
        raise OrderRefused(FailureCode.BAD_ORDER, "the session is for another model")
    if not is_order_signed(signed, session.session_key):
        raise OrderRefused(FailureCode.BAD_ORDER, "the order is not signed by the session key")
    price = compute_price_max(order)
    left = session.escrow - outstanding.get(order.session)
    if price > left:
        raise OrderRefused(FailureCode.NO_ESCROW, f"the request may cost {price} nmyl, the session has {left} left")
    path = []
    for number, one in enumerate(order.path):
        entry = await chain.get_worker(one.worker)
        if entry is None or not entry.is_active or entry.model != order.model:
            raise OrderRefused(FailureCode.BAD_ORDER, f"stage {number} is not an active worker of the model")
        if (entry.start, entry.end) != (one.start, one.end):
            raise OrderRefused(FailureCode.BAD_ORDER, f"stage {number} serves other layers than the order says")
        path.append(entry)
    return stage, session, tuple(path)


def _find_stage(order: Order, own: WorkerEntry) -> int:
    mine = [number for number, one in enumerate(order.path) if one.worker == own.worker]
    if len(mine) != 1:
        raise OrderRefused(FailureCode.NOT_MY_STAGE, "this worker is not exactly one stage of the path")
    one = order.path[mine[0]]
    if (one.start, one.end) != (own.start, own.end):
        raise OrderRefused(FailureCode.NOT_MY_STAGE, f"this worker serves layers {own.start}-{own.end - 1}")
    if one.prefill_price < own.prefill_price or one.decode_price < own.decode_price:
        asked = f"{own.prefill_price} (prefill) and {own.decode_price} (decode) nmyl per layer and token"
        raise OrderRefused(FailureCode.PRICE_TOO_LOW, f"this worker asks {asked}")
    return mine[0]


def _check_lengths(order: Order, manifest: Manifest) -> None:
    layers = manifest.architecture.layers
    joints = [0, *(one.end for one in order.path)]
    if joints[-1] != layers or any(one.start != at for one, at in zip(order.path, joints, strict=False)):
        raise OrderRefused(FailureCode.BAD_ORDER, f"the path does not cover layers 0 to {layers - 1} in order")
    if order.prompt_tokens < 1 or order.tokens_max < 1:
        raise OrderRefused(FailureCode.BAD_ORDER, "a request has at least one prompt token and asks at least one")
    positions, limit = compute_positions(order.prompt_tokens, order.tokens_max), manifest.architecture.context_max
    if positions > limit:
        raise OrderRefused(FailureCode.BAD_ORDER, f"prompt and answer take {positions} positions of {limit} at most")
