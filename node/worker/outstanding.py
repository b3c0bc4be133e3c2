"""What sessions owe for requests taken here that the chain does not show yet, so that no deposit is promised twice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import trio

from node.client.chain_view import ChainView, SessionEntry
from node.worker.refusal import OrderRefused
from node.worker.together import run_each
from proto_specs.types.request import Order, compute_price_max, compute_request_id
from proto_specs.types.wire import FailureCode

ENDED_S_MAX = 120.0
"""How long an ended request counts while its settlement is awaited. The journal keeps it from running again."""


@dataclass(slots=True)
class _Taken:
    session: bytes
    sequence: int
    slice_start: int
    slice_end: int
    price: int
    is_owed: bool = True
    ended_s: float | None = None


class Outstanding:
    """Orders taken, by request id."""

    def __init__(self) -> None:
        self._taken: dict[bytes, _Taken] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def reserve(self, order: Order, session: SessionEntry) -> None:
        """Count an order against its session. Raises OrderRefused when the session cannot pay for it as well.

        What is settled already and not forgotten counts twice, here and in the session: at worst an order is refused
        that could be taken, never the other way round. Disjoint slices within the session's positions are always paid.
        """
        self._drop_old()
        owing = [one for one in self._taken.values() if one.session == order.session]
        if any(one.sequence == order.sequence for one in owing):
            raise OrderRefused(FailureCode.BAD_ORDER, f"sequence number {order.sequence} of the session is taken")
        if any(one.slice_start < order.slice_end and order.slice_start < one.slice_end for one in owing):
            shown = f"[{order.slice_start}, {order.slice_end})"
            raise OrderRefused(
                FailureCode.BAD_ORDER, f"the slice {shown} overlaps that of another order of the session"
            )
        if order.slice_end > session.promisable:
            most = session.promisable
            raise OrderRefused(
                FailureCode.NO_ESCROW, f"the slice ends at {order.slice_end}, the session pays to {most}"
            )
        owed = [one.price for one in owing if one.is_owed]
        if len(owed) >= session.requests_left:
            raise OrderRefused(FailureCode.NO_ESCROW, "the session takes no more requests")
        price, left = compute_price_max(order), session.escrow - sum(owed)
        if price > left:
            raise OrderRefused(FailureCode.NO_ESCROW, f"the request may cost {price} nmyl, the session has {left} left")
        taken = _Taken(order.session, order.sequence, order.slice_start, order.slice_end, price)
        self._taken[compute_request_id(order)] = taken

    def release(self, order: Order) -> None:
        """Forget an order that was not taken after all: nothing was signed, so it may come again."""
        del self._taken[compute_request_id(order)]

    def end(self, order: Order, is_settling: bool) -> None:
        """End a request. Its price counts until the chain shows the settlement, if there will be one.

        Its slice stays taken even when no settlement is expected, for another of the path may hold what it takes.
        """
        taken = self._taken[compute_request_id(order)]
        taken.ended_s = trio.current_time()
        taken.is_owed = is_settling

    async def forget(self, session: bytes, chain: ChainView) -> bool:
        """Drop what the chain shows settled by now; whether there was any. Raises ChainUnreachable.

        Read the session again after this: what the chain showed by then is in its escrow.
        """
        asked = {
            key: one
            for key, one in self._taken.items()
            if one.ended_s is not None and one.is_owed and one.session == session
        }
        shown = await run_each([partial(chain.is_sequence_used, session, one.sequence) for one in asked.values()])
        settled = [request for request, is_used in zip(asked, shown, strict=True) if is_used]
        for request in settled:
            self._taken.pop(request, None)
        return bool(settled)

    def _drop_old(self) -> None:
        now_s = trio.current_time()
        for request, one in list(self._taken.items()):
            if one.ended_s is not None and now_s - one.ended_s > ENDED_S_MAX:
                del self._taken[request]
