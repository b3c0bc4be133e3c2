"""Which continuations a worker has taken: none of a past epoch, and none that rides on a settlement for free."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

from node.worker.refusal import OrderRefused
from proto_specs.types.request import Order
from proto_specs.types.wire import FailureCode

V = TypeVar("V")

REPLAYS_MAX: Final = 4
"""Orders that one settlement frees from paying for its positions, on one worker: stages may be lost several times."""
ANSWERS_MAX: Final = 4096
"""Requests that were continued here and are remembered; each of them was paid for, or is billed anew."""


class Fence:
    """The latest epoch that goes on from each request of a session, and how many orders rode on its settlement.

    Outlives the requests. Orders that bill everything cost nothing to sign: they do not make it forget the others.
    """

    def __init__(self) -> None:
        self._epochs: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()
        self._rides: OrderedDict[tuple[bytes, bytes], tuple[int, int]] = OrderedDict()

    def pass_order(self, order: Order) -> None:
        """Count a continuation; any other order passes. Raises OrderRefused.

        One of an epoch that went on from there already may come from a client that was replaced, or that was cut off
        and is back. Where the settlement pays, replay is unpaid work: so it is done a few times, not for ever.
        """
        continuation = order.continuation
        if continuation is None:
            return
        key = order.session, continuation.request
        ridden, rides = self._rides.get(key, (0, 0))
        epoch = max(self._epochs.get(key, 0), ridden)
        if continuation.epoch <= epoch:
            raise OrderRefused(FailureCode.BAD_ORDER, f"an order of epoch {epoch} goes on from there already")
        if not continuation.settled_positions:
            _remember(self._epochs, key, continuation.epoch)
            return
        if rides >= REPLAYS_MAX:
            raise OrderRefused(FailureCode.BAD_ORDER, f"{REPLAYS_MAX} orders go on from that settlement already")
        _remember(self._rides, key, (continuation.epoch, rides + 1))


def _remember(known: OrderedDict[tuple[bytes, bytes], V], key: tuple[bytes, bytes], value: V) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > ANSWERS_MAX:
        known.popitem(last=False)
