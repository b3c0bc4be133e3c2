"""What this stage has signed of a finished request, in few bytes: the leaf of a statement must agree with it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from inference.serving.record import RequestRecord
from inference.serving.statements import StatementInvalid, check_leaf, check_own_leaf
from proto_specs.merkle import compute_root
from proto_specs.order_rules import ModelBounds
from proto_specs.types.request import Order, StageRoots, Voucher, compute_leaf_hash, compute_request_id
from proto_specs.types.sum_tree import RequestLeaf


@dataclass(frozen=True, slots=True)
class Claim:
    """The order, the roots over this stage's two boundaries, and the client's last promise where it is known."""

    order: Order
    roots: StageRoots
    voucher: Voucher | None


def make_claim(kept: RequestRecord) -> Claim:
    """The claim that a record opens."""
    last = kept.output_leaves[-1].leaf
    order, windows = kept.order.order, len(kept.output_leaves)
    ends = (
        compute_root([compute_leaf_hash(one.leaf) for one in leaves])
        for leaves in (kept.input_leaves, kept.output_leaves)
    )
    roots = StageRoots(compute_request_id(order), kept.stage, windows, last.start + last.count, *ends)
    return Claim(order, roots, None if kept.voucher is None else kept.voucher.voucher)


def check_claimed(claim: Claim, leaf: RequestLeaf, bounds: ModelBounds) -> None:
    """Raises StatementInvalid unless the leaf bills the whole request as this stage has it, and can be judged.

    Without a voucher of its own a stage knows the tokens by the positions, and the statement, which the client signs,
    is the promise. A request that was cut short settles by itself.
    """
    if not leaf.final:
        raise StatementInvalid(f"request {leaf.sequence} was cut short")
    check_leaf(leaf, claim.order, bounds)
    check_own_leaf(leaf, claim.roots, claim.voucher)
    if claim.voucher is not None and claim.voucher.final and leaf.tokens != claim.voucher.tokens:
        raise StatementInvalid(f"{leaf.tokens} tokens are stated, {claim.voucher.tokens} were vouched for")
