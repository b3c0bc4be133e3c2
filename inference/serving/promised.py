"""The client's promise on a stage that draws no tokens, and how far any stage computes on it. Pure; knows no frames.

Every stage gets the client's vouchers, window by window, so that it can settle alone what it computed: a last stage
that settled nothing could else take a whole answer, together with the client.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.events import Compute
from proto_specs.limits import (
    UNSIGNED_PREFILL_WINDOWS_MAX,
    UNVOUCHED_TOKENS_MAX,
    UNVOUCHED_WINDOWS_MAX,
    WINDOW_POSITIONS,
)
from proto_specs.types.request import Order, SignedVoucher, compute_positions, is_voucher_signed


class PromiseBook:
    """The best voucher that a stage before the last one has."""

    def __init__(self, request: bytes, order: Order, session_key: bytes) -> None:
        self._request = request
        self._order = order
        self._session_key = session_key
        self.voucher: SignedVoucher | None = None

    def take(self, signed: SignedVoucher, reached: int) -> None:
        """Keep a voucher of the client, whose rows up to position `reached` have come. Raises BoundaryError."""
        tokens, known = signed.voucher.tokens, -1 if self.voucher is None else self.voucher.voucher.tokens
        if tokens < known:
            raise BoundaryError("a voucher for fewer tokens than the one before")
        if tokens and compute_positions(self._order.prompt_tokens, tokens) > reached:
            raise BoundaryError(f"a voucher for {tokens} tokens, which are not drawn from the {reached} positions here")
        self.validate(signed)
        self.voucher = signed

    def note(self, signed: SignedVoucher) -> None:
        """Keep a voucher that another stage handed on, if it is better. Raises BoundaryError."""
        self.validate(signed)
        if self.voucher is None or signed.voucher.tokens > self.voucher.voucher.tokens:
            self.voucher = signed

    def validate(self, signed: SignedVoucher) -> None:
        """Raises BoundaryError for what the session key did not sign for this request, or for more than was ordered."""
        if signed.voucher.request != self._request:
            raise BoundaryError("a voucher for another request")
        if signed.voucher.tokens > self._order.tokens_max:
            raise BoundaryError(f"a voucher for {signed.voucher.tokens} tokens of {self._order.tokens_max}")
        if not is_voucher_signed(signed, self._session_key):
            raise BoundaryError("the voucher is not signed by the session key")


@dataclass(frozen=True, slots=True)
class Credit:
    """How far a stage computes: neither far beyond what the client vouched for, nor beyond what its receiver signed.

    What is vouched for is worth nothing to a stage whose receiver does not sign that it came. Of the prompt a receiver
    may owe more windows, since they go through the path one behind the other.
    """

    order: Order
    sent: BoundaryLog
    get_voucher: Callable[[], SignedVoucher | None]

    def allows(self, work: Compute) -> bool:
        """Whether the sure rows of `work` may be computed now. Drafted ones are within the same window."""
        sure = work.start + work.count - len(work.draft)
        voucher = self.get_voucher()
        promised = UNVOUCHED_TOKENS_MAX
        if voucher is not None:
            promised += compute_positions(self.order.prompt_tokens, voucher.voucher.tokens) + 1
        return sure <= promised and work.start // WINDOW_POSITIONS < self._count_windows(work.start)

    def _count_windows(self, start: int) -> int:
        is_prompt = start < self.order.prompt_tokens
        return self.sent.signed + (UNSIGNED_PREFILL_WINDOWS_MAX if is_prompt else UNVOUCHED_WINDOWS_MAX + 1)
