"""A Merkle sum tree over requests: a node's sum is that of its leaves' own positions (DESIGN 5.1).

A point below the root's sum falls on one position of one request, so windows are drawn in proportion to work. Knows no
session, no signature and no order: `statement.py` signs the root, `request.py` carries a place in an opening.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U32, U64, Max, record
from proto_specs.hashing import Tag, hash_record, hash_tagged
from proto_specs.types.common import Balance, Hash32

_SUM_BYTES = 8


@record
class RequestLeaf:
    """What a path has signed for one request: its order by its id, what the client vouched for, and every boundary.

    `boundaries[b]` is the root over boundary b's leaves: stage s has the roots `boundaries[s]` and `boundaries[s + 1]`.
    """

    request: Hash32
    sequence: U32
    slice_start: Balance
    slice_end: Balance
    prompt_tokens: U32
    settled_positions: U32
    positions: U32
    tokens: U32
    tokens_hash: Hash32
    final: bool
    boundaries: Annotated[tuple[Hash32, ...], Max(limits.STAGES_MAX + 1)]

    @property
    def own_positions(self) -> int:
        """Positions that this request bills: those of an order that it continues are that one's."""
        return self.positions - self.settled_positions

    @property
    def billed_prompt(self) -> int:
        """Prompt positions that were computed and that no order before settled."""
        return max(0, min(self.prompt_tokens, self.positions) - self.settled_positions)


@record
class SumNode:
    """A node of the sum tree."""

    hash: Hash32
    sum: U64


@record
class StatementPlace:
    """Where a request stands in a statement: its leaf, number `index`, and the siblings up to the root."""

    leaf: RequestLeaf
    index: U32
    siblings: Annotated[tuple[SumNode, ...], Max(limits.STATEMENT_DEPTH_MAX)]


def make_leaf_node(leaf: RequestLeaf) -> SumNode:
    """The tree's node of a request."""
    return SumNode(hash_record(Tag.STATEMENT_LEAF, leaf), leaf.own_positions)


def join_nodes(left: SumNode, right: SumNode) -> SumNode:
    """The parent of two nodes. It binds the sums of both, so that no sum can be moved between them."""
    parts = left.hash + left.sum.to_bytes(_SUM_BYTES, "big") + right.hash + right.sum.to_bytes(_SUM_BYTES, "big")
    return SumNode(hash_tagged(Tag.STATEMENT_NODE, parts), left.sum + right.sum)


def list_levels(leaves: Sequence[RequestLeaf]) -> list[list[SumNode]]:
    """All levels of the tree, leaves first, the root last. A node without a sibling goes up as it is.

    Leaves are in the order of their sequence numbers, at least one.
    """
    levels = [[make_leaf_node(one) for one in leaves]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        level = [join_nodes(left, right) for left, right in zip(below[::2], below[1::2], strict=False)]
        levels.append([*level, below[-1]] if len(below) % 2 else level)
    return levels


def find_place(leaves: Sequence[RequestLeaf], levels: Sequence[Sequence[SumNode]], point: int) -> StatementPlace:
    """The request that covers position `point` of the statement, 0 <= point < the root's sum."""
    index, left = 0, point
    while left >= leaves[index].own_positions:
        left -= leaves[index].own_positions
        index += 1
    siblings, place = [], index
    for level in levels[:-1]:
        if place ^ 1 < len(level):
            siblings.append(level[place ^ 1])
        place >>= 1
    return StatementPlace(leaves[index], index, tuple(siblings))


def locate(place: StatementPlace, requests: int, root: SumNode, point: int) -> int | None:
    """The position in the request that `point` of the statement falls on; None unless the place covers it.

    `requests` and `root` are what the statement says. The result counts from the request's own first position.
    """
    if not 0 <= place.index < requests or place.leaf.own_positions < 0:
        return None
    node, before = make_leaf_node(place.leaf), 0
    index, count, siblings = place.index, requests, list(place.siblings)
    while count > 1:
        if index ^ 1 < count:
            if not siblings:
                return None
            other = siblings.pop(0)
            if node.sum + other.sum > root.sum:
                return None
            if index & 1:
                before += other.sum
                node = join_nodes(other, node)
            else:
                node = join_nodes(node, other)
        index, count = index >> 1, (count + 1) >> 1
    if siblings or node != root:
        return None
    within = point - before
    return within if 0 <= within < place.leaf.own_positions else None
