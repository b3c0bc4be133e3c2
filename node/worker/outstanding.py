"""What sessions owe for requests taken here that the chain does not show yet, so that no deposit is promised twice."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from node.client.chain_view import ChainView, SessionEntry
from node.worker.held import HELD_S
from node.worker.refusal import OrderRefused
from node.worker.together import run_each
from proto_specs.types.request import Order, compute_price_max, compute_request_id
from proto_specs.types.wire import FailureCode

ENDED_S_MAX = 120.0
"""How long an ended request counts while its settlement is awaited. The journal keeps it from running again."""


UNSETTLED_S: Final = 90.0
"""A settlement is on chain by then, unless something keeps it."""
UNSETTLED_MAX: Final = 32
"""Requests of one session whose windows were signed and never settled. Each lies on this worker's disk for a day. An
honest client leaves one at times, when a stage is lost before the last one has signed."""
SESSIONS_MAX: Final = 4096


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
        self._unsettled: OrderedDict[bytes, dict[int, float]] = OrderedDict()
        """By session: sequence numbers, and when their requests ended."""

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

    def end(self, order: Order, is_settling: bool, *, batched: bool = False) -> None:
        """End a request. Its price counts until the chain shows the settlement, if there will be one.

        Its slice stays taken even when no settlement is expected, for another of the path may hold what it takes.
        `batched`: the settlement may wait for a statement first.
        """
        taken = self._taken[compute_request_id(order)]
        taken.ended_s = trio.current_time() + (HELD_S if batched else 0.0)
        taken.is_owed = is_settling
        if is_settling:
            self.expect(order.session, order.sequence, batched=batched)

    def expect(self, session: bytes, sequence: int, *, batched: bool = False) -> None:
        """A request of a session is about to be settled, by this worker or by whoever brought its settlement."""
        self._unsettled.setdefault(session, {})[sequence] = trio.current_time() + (HELD_S if batched else 0.0)
        self._unsettled.move_to_end(session)
        if len(self._unsettled) > SESSIONS_MAX:
            self._unsettled.popitem(last=False)

    async def check_settles(self, session: bytes, chain: ChainView) -> None:
        """Raises OrderRefused for a session that leaves requests unsettled, for whatever reason; ChainUnreachable.

        A client may sign windows and never vouch for them: then the stages keep records that nobody pays for.
        """
        ended, now_s = self._unsettled.get(session, {}), trio.current_time()
        late = [number for number, ended_s in ended.items() if now_s - ended_s > UNSETTLED_S]
        if len(late) < UNSETTLED_MAX:
            return
        shown = await run_each([partial(chain.is_sequence_used, session, one) for one in late])
        for number, is_settled in zip(late, shown, strict=True):
            if is_settled:
                ended.pop(number, None)
        if shown.count(False) >= UNSETTLED_MAX:
            raise OrderRefused(FailureCode.NO_CAPACITY, f"{shown.count(False)} requests of the session are not settled")

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
