"""What an answer has over the orders that were made for it: its tokens, and what the next order goes on from. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from inference.serving.client import ClientRequest
from inference.serving.continuing import find_staying
from node.client.answer import Ask
from node.client.escrow_session import EscrowSlice
from node.client.routes import Route
from proto_specs.types.calls import Settle
from proto_specs.types.manifest import ServiceClass
from proto_specs.types.request import (
    Continuation,
    Order,
    PathStage,
    compute_prompt_hash,
    compute_request_id,
    compute_settled_price,
    pack_tokens,
)

EPOCH_MAX = 255


class AnswerSoFar:
    """Tokens that came, and the order that the next one continues: none before all stages of one took part."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.tokens: list[int] = list(ask.answered)
        self.path: tuple[PathStage, ...] = ()
        """The path of the last order that all its stages took."""
        self.settled: Settle | None = None
        """What settles the most positions that the next order need not bill."""
        self._brought: Settle | None = None
        """The one that an order brought: whoever took that has submitted it, perhaps."""
        self._session: bytes | None = None
        before = ask.before
        self._continued: bytes | None = None if before is None else before.request
        self._epoch = 0 if before is None else before.epoch

    @property
    def prompt(self) -> tuple[int, ...]:
        """The next order's prompt."""
        return (*self._ask.prompt, *self.tokens)

    def make_order(self, genesis: bytes, session: bytes, route: Route, part: EscrowSlice) -> Order:
        """The next order."""
        ask, prompt = self._ask, self.prompt
        return Order(
            genesis=genesis,
            session=session,
            sequence=part.sequence,
            slice_start=part.start,
            slice_end=part.end,
            model=ask.model,
            service_class=ServiceClass(route.manifest.service_class),
            prompt_hash=compute_prompt_hash(pack_tokens(prompt)),
            prompt_tokens=len(prompt),
            tokens_max=ask.tokens_max - len(self.tokens),
            sampling=ask.sampling,
            path=route.path,
            continuation=self._make_continuation(route.path),
        )

    def note_ordered(self, path: Sequence[PathStage] = ()) -> None:
        """An order over this path was sent: a stage that saw it takes no other one of its epoch."""
        self._epoch += 1
        self._brought = self.get_settled(path)

    def leave(self, machine: ClientRequest) -> int:
        """An order failed after all its stages took part; what it costs, in nmyl. Its tokens are here already."""
        order, settlement = machine.order.order, machine.make_settlement()
        self.path, self._session = order.path, order.session
        if settlement is not None and settlement.stage_roots[0].roots.positions < len(self.prompt):
            self.settled = settlement
            self._continued = compute_request_id(order)
            positions = settlement.stage_roots[0].roots.positions
            return compute_settled_price(order, settlement.voucher.voucher.tokens, positions)
        if self.settled is None:
            self._continued = compute_request_id(order)
        return 0

    def enter(self, session: bytes) -> bool:
        """The next order is paid by this session. True: it is another one, so that all is billed that is computed."""
        if self._session in (None, session) or self.settled is None:
            return False
        self.settled = self._brought = None
        return True

    def get_settled(self, path: Sequence[PathStage]) -> Settle | None:
        """What settles the positions that an order over this path does not bill.

        A worker of the path submits it, who was there before; or another one has, to whom an order brought it.
        """
        settled = self.settled
        return settled if settled is not None and find_staying(path, settled) else self._brought

    def note_refused(self, path: Sequence[PathStage]) -> None:
        """An order over this path was refused: the settlement that it brought is perhaps not on chain."""
        brought = self._brought
        if brought is not None and self.get_settled(path) is brought and not find_staying(path, brought):
            self._brought = None

    def _make_continuation(self, path: Sequence[PathStage]) -> Continuation | None:
        if self._continued is None:
            return None
        settled, epoch, start = self.get_settled(path), min(self._epoch, EPOCH_MAX), len(self._ask.prompt)
        if settled is None:
            return Continuation(self._continued, epoch, start, 0)
        positions = settled.stage_roots[0].roots.positions
        return Continuation(compute_request_id(settled.order.order), epoch, start, positions)
