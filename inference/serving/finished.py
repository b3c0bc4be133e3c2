"""A finished request as its client holds it: all that a leaf of a statement is made of. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from proto_specs.types.request import Order, SignedOrder, SignedStageRoots, SignedVoucher, compute_request_id


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """An order with the voucher over the whole answer, and the final roots of every stage of its path, which agree."""

    signed: SignedOrder
    voucher: SignedVoucher
    roots: tuple[SignedStageRoots, ...]

    @property
    def order(self) -> Order:
        """The order."""
        return self.signed.order

    @property
    def request(self) -> bytes:
        """The request's id."""
        return compute_request_id(self.order)

    @property
    def positions(self) -> int:
        """Positions computed."""
        return self.roots[0].roots.positions

    @property
    def boundaries(self) -> tuple[bytes, ...]:
        """The roots over every boundary's leaves: one more than stages."""
        return (self.roots[0].roots.input_root, *(one.roots.output_root for one in self.roots))
