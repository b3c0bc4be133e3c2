"""What sessions owe for requests taken here that the chain does not show yet, so that no escrow is promised twice."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from node.client.chain_view import ChainView, SessionEntry
from node.worker.refusal import OrderRefused
from proto_specs.types.request import Order, compute_request_id, compute_stage_price
from proto_specs.types.wire import FailureCode

ENDED_S_MAX = 120.0
"""How long an ended request counts while its settlement is awaited. The journal keeps it from running again."""


@dataclass(slots=True)
class _Taken:
    session: bytes
    sequence: int
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
        """Count an order against its session. Raises OrderRefused when the session cannot pay for it as well."""
        owing = [one for one in self._taken.values() if one.session == order.session]
        if any(one.sequence == order.sequence for one in owing):
            raise OrderRefused(FailureCode.BAD_ORDER, f"sequence number {order.sequence} of the session is taken")
        owed = [one.price for one in owing if one.is_owed]
        if len(owed) >= session.requests_left:
            raise OrderRefused(FailureCode.NO_ESCROW, "the session takes no more requests")
        price, left = compute_price_max(order), session.escrow - sum(owed)
        if price > left:
            raise OrderRefused(FailureCode.NO_ESCROW, f"the request may cost {price} nmyl, the session has {left} left")
        self._taken[compute_request_id(order)] = _Taken(order.session, order.sequence, price)

    def release(self, order: Order) -> None:
        """Forget an order that was not taken after all: nothing was signed, so it may come again."""
        del self._taken[compute_request_id(order)]

    def end(self, order: Order, is_settling: bool) -> None:
        """End a request. Its price counts until the chain shows the settlement, if there will be one."""
        taken = self._taken[compute_request_id(order)]
        taken.ended_s = trio.current_time()
        taken.is_owed = is_settling

    async def forget(self, session: bytes, chain: ChainView) -> None:
        """Drop what the chain shows by now, and what is too old. Raises ChainUnreachable.

        Call this before reading the session: what the chain showed by then is in the session's escrow.
        """
        now_s = trio.current_time()
        ended = {key: one for key, one in self._taken.items() if one.ended_s is not None}
        for request, one in ended.items():
            is_old = one.ended_s is not None and now_s - one.ended_s > ENDED_S_MAX
            is_asked = one.is_owed and one.session == session
            if is_old or (is_asked and await chain.is_sequence_used(session, one.sequence)):
                self._taken.pop(request, None)


def compute_price_max(order: Order) -> int:
    """The most that the whole path may cost, in nmyl."""
    return sum(compute_stage_price(stage, order.prompt_tokens, order.tokens_max) for stage in order.path)
