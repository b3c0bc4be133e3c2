"""An order goes on from a request that lost a stage: what this stage has of that one, and how it ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from inference.serving.boundary import BoundaryError
from inference.serving.continuing import find_submitter, validate_settled, validate_settled_tokens
from inference.serving.events import Conclude
from inference.serving.kept import KeptRows
from node.worker.active import ActiveRequest
from node.worker.archive import RequestArchive
from node.worker.ends import HOLD_S
from node.worker.fence import Fence
from node.worker.refusal import OrderRefused
from node.worker.requests import Requests
from proto_specs.types.calls import Settle
from proto_specs.types.request import compute_request_id
from proto_specs.types.wire import FailureCode, OpenRequest

logger = logging.getLogger("myelin.worker")

LAST_STAGE_S: Final = HOLD_S + 10.0
"""How long a last stage that is not in the path any more has to settle, before another submits what the client has."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """The requests of the same answer on this stage, the latest first, and the settlement that ends the one continued.

    `is_submitter`: this worker sends it to the chain.
    """

    before: tuple[ActiveRequest, ...]
    settled: Settle | None
    worker: bytes
    is_submitter: bool

    @property
    def memory_of(self) -> bytes | None:
        """The request whose KV memory goes on."""
        return self.before[0].request if self.before else None

    def get_kept(self) -> KeptRows | None:
        """The rows of that request; None where it has none, or draws tokens."""
        return self.before[0].machine.get_kept() if self.before else None

    def freeze(self) -> None:
        """From now on the requests before do nothing until they are concluded, or left alone."""
        for one in self.before:
            one.freeze()

    def abandon(self) -> None:
        """The order is not taken after all, but may have taken their memory: another one may go on from them."""
        for one in self.before:
            one.abandon("the order that goes on from it was not taken")

    async def complete(self, archive: RequestArchive) -> None:
        """End the requests before: their writes count no more.

        What the client has vouched for is settled whatever the order says of it: only a last stage can tell, so it
        submits the better settlement, and another stage does so only once the last one had its time.
        """
        settled = self.settled
        paid = None if settled is None else compute_request_id(settled.order.order)
        is_sent = False
        for one in self.before:
            own = one.machine.get_settlement() if one.is_last else None
            told = Conclude(0 if own is None else _count_windows(own), own)
            if settled is not None and one.request == paid and _count_windows(settled) >= told.windows:
                told = Conclude(_count_windows(settled), settled if one.is_last and self.is_submitter else None)
            is_concluded = one.conclude(told)
            is_sent = is_sent or (one.request == paid and is_concluded and told.settlement is not None)
        if settled is not None and paid is not None and self.is_submitter and not is_sent:
            is_last = settled.order.order.path[-1].worker == self.worker
            try:
                await archive.settle_later(paid, settled, 0.0 if is_last else LAST_STAGE_S)
            except OSError as error:
                logger.error("the settlement of %s cannot be kept on disk: %s", paid.hex()[:12], error)


def prepare_handover(
    opened: OpenRequest, session_key: bytes, worker: bytes, requests: Requests, fence: Fence
) -> Takeover:
    """Check what a continuation says of the order before. Raises OrderRefused.

    An order of an epoch that this stage has seen already is refused: whoever signs it may be one that was replaced.
    """
    order, settled = opened.order.order, opened.settled
    before = requests.find_before(order)
    if before and before[0].order.epoch >= order.epoch:
        raise OrderRefused(
            FailureCode.BAD_ORDER, f"an order of epoch {before[0].order.epoch} goes on from there already"
        )
    if settled is None:
        if order.settled_positions:
            raise OrderRefused(FailureCode.BAD_ORDER, "the settlement of what the order does not bill is missing")
        fence.pass_order(order)
        return Takeover(tuple(before), None, worker, False)
    try:
        validate_settled(order, settled, session_key)
        if opened.prompt:
            validate_settled_tokens(order, settled, opened.prompt)
    except BoundaryError as error:
        raise OrderRefused(error.code, str(error)) from error
    paid, windows = compute_request_id(settled.order.order), _count_windows(settled)
    for one in before:
        if one.request == paid and one.machine.prefix_windows < windows:
            signed = one.machine.prefix_windows
            raise OrderRefused(FailureCode.BAD_ORDER, f"{windows} windows are settled, {signed} are signed here")
    fence.pass_order(order)
    return Takeover(tuple(before), settled, worker, find_submitter(order, settled) == worker)


def _count_windows(settled: Settle) -> int:
    return settled.stage_roots[0].roots.windows
