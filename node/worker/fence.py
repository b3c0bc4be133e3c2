"""Which continuations a worker has taken: none of a past epoch, and none that rides on a settlement for free."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from node.worker.refusal import OrderRefused
from proto_specs.types.request import Order
from proto_specs.types.wire import FailureCode

REPLAYS_MAX: Final = 4
"""Orders that one settlement frees from paying for its positions, on one worker: stages may be lost several times."""
ANSWERS_MAX: Final = 4096
"""Requests that were continued here and are remembered; each of them was paid for, or is billed anew."""


class Fence:
    """The latest epoch that goes on from each request, and how many orders did. Outlives the requests."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def pass_order(self, order: Order) -> None:
        """Count a continuation; any other order passes. Raises OrderRefused.

        One of an epoch that went on from there already may come from a client that was replaced, or that was cut off
        and is back. Where the settlement pays, replay is unpaid work: so it is done a few times, not for ever.
        """
        continuation = order.continuation
        if continuation is None:
            return
        epoch, orders = self._seen.get(continuation.request, (0, 0))
        if continuation.epoch <= epoch:
            raise OrderRefused(FailureCode.BAD_ORDER, f"an order of epoch {epoch} goes on from there already")
        orders += continuation.settled_positions > 0
        if orders > REPLAYS_MAX:
            raise OrderRefused(FailureCode.BAD_ORDER, f"{REPLAYS_MAX} orders go on from that settlement already")
        self._seen[continuation.request] = continuation.epoch, orders
        self._seen.move_to_end(continuation.request)
        if len(self._seen) > ANSWERS_MAX:
            self._seen.popitem(last=False)
