"""What this stage has signed of a finished request, in few bytes: what the leaf of a statement must agree with. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from inference.serving.record import RequestRecord
from proto_specs.errors import MyelinError
from proto_specs.merkle import compute_root
from proto_specs.types.request import Order, Voucher, compute_leaf_hash, compute_request_id, compute_vouched_tokens
from proto_specs.types.sum_tree import RequestLeaf


class LeafDiffers(MyelinError):
    """A leaf says something else of a request than this stage has signed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The order, the positions and roots of this stage's two boundaries, and the client's promise where it is known."""

    order: Order
    stage: int
    positions: int
    input_root: bytes
    output_root: bytes
    voucher: Voucher | None

    @property
    def request(self) -> bytes:
        """The request's id."""
        return compute_request_id(self.order)


def make_claim(kept: RequestRecord) -> Claim:
    """The claim that a record opens."""
    last = kept.output_leaves[-1].leaf
    return Claim(
        order=kept.order.order,
        stage=kept.stage,
        positions=last.start + last.count,
        input_root=compute_root([compute_leaf_hash(one.leaf) for one in kept.input_leaves]),
        output_root=compute_root([compute_leaf_hash(one.leaf) for one in kept.output_leaves]),
        voucher=None if kept.voucher is None else kept.voucher.voucher,
    )


def check_leaf(claim: Claim, leaf: RequestLeaf) -> None:
    """Raises LeafDiffers unless the leaf bills the whole request as this stage has it.

    Without a voucher of its own a stage knows the tokens by the positions, and the statement, which the client signs,
    is the promise. A request that was cut short settles by itself.
    """
    order = claim.order
    if leaf.request != claim.request or not leaf.final:
        raise LeafDiffers("the leaf is of another request, or of one that was cut short")
    said = (leaf.sequence, leaf.slice_start, leaf.slice_end, leaf.prompt_tokens, leaf.settled_positions)
    if said != (order.sequence, order.slice_start, order.slice_end, order.prompt_tokens, order.settled_positions):
        raise LeafDiffers("the leaf is not of the order")
    tokens = compute_vouched_tokens(order, claim.positions)
    if (leaf.positions, leaf.tokens) != (claim.positions, tokens):
        raise LeafDiffers(f"{leaf.tokens} tokens in {leaf.positions} positions are not {tokens} in {claim.positions}")
    promised = claim.voucher
    if promised is not None and (leaf.tokens, leaf.tokens_hash) != (promised.tokens, promised.tokens_hash):
        raise LeafDiffers(f"{leaf.tokens} tokens are not the {promised.tokens} that the client vouched for")
    if len(leaf.boundaries) != len(order.path) + 1:
        raise LeafDiffers(f"{len(leaf.boundaries)} boundaries on a path of {len(order.path)} stages")
    if leaf.boundaries[claim.stage : claim.stage + 2] != (claim.input_root, claim.output_root):
        raise LeafDiffers("its roots at this stage's boundaries are not those over the leaves that were signed")
