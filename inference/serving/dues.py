"""What the client of a request owes a stage: the prompt, leaves, countersignatures and vouchers. Signs nothing.

Rows that wait because the next stage does not sign count as well: somebody has to end the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.serving.boundary import BoundaryLog
from inference.serving.flow import RowFlow
from inference.serving.generation import Generation
from inference.serving.place import Place
from inference.serving.stage_phases import COMPUTING, StagePhase
from inference.serving.vouchers import VoucherBook
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.request import Order, compute_windows


@dataclass(frozen=True, slots=True)
class ClientDues:
    """A view of a stage's boundaries and vouchers. `total` is the request's positions, None while it is not known."""

    order: Order
    place: Place
    received: BoundaryLog
    sent: BoundaryLog
    book: VoucherBook
    generation: Generation
    flow: RowFlow

    def are_signed(self, total: int | None) -> bool:
        """On an end of the path: whether the client has signed every leaf it must, and vouched for every token."""
        if total is None:
            return False
        is_input_signed = not self.place.is_first or self.received.signed == compute_windows(total)
        return is_input_signed and (not self.place.is_last or self.are_vouched(total))

    def are_vouched(self, total: int) -> bool:
        """On a last stage: whether the client has countersigned every window, and vouched for every token."""
        return self.book.is_complete and self.sent.signed == compute_windows(total)

    def list_owed(self, phase: StagePhase, total: int | None) -> tuple[int, ...] | None:
        """None while the client owes nothing now; else a value that changes with each delivery of the client."""
        place, received, sent = self.place, self.received, self.sent
        waits_from = self.flow.waits_from
        if phase in COMPUTING and waits_from is not None:
            return (2, waits_from, sent.signed)
        if phase not in COMPUTING or not place.is_end or self.are_signed(total):
            return None
        if place.is_first and received.positions < self.order.prompt_tokens:
            return (0,)
        is_fed = phase is StagePhase.FED
        owes_leaf = place.is_first and (is_fed or received.leaves < received.positions // WINDOW_POSITIONS)
        owes_voucher = place.is_last and (is_fed or self.generation.held > 0 or sent.signed < sent.leaves)
        return (1, received.leaves, sent.signed, self.book.vouched) if owes_leaf or owes_voucher else None
