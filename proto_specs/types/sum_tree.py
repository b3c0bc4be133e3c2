"""A Merkle sum tree over requests: a node's sums are what its leaves bill, prompt positions and tokens (DESIGN 5.1).

The points of a statement are its billed prompt positions, request by request, and then its tokens: each falls on one
position of one request. So a draw that picks prompt or token by what they cost is in proportion to pay. Knows no
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
    """A node of the sum tree, with what the requests below it bill: prompt positions, and tokens."""

    hash: Hash32
    prompt: U64
    tokens: U64


@record
class StatementPlace:
    """Where a request stands in a statement: its leaf, number `index`, and the siblings up to the root."""

    leaf: RequestLeaf
    index: U32
    siblings: Annotated[tuple[SumNode, ...], Max(limits.STATEMENT_DEPTH_MAX)]


def make_leaf_node(leaf: RequestLeaf) -> SumNode:
    """The tree's node of a request."""
    return SumNode(hash_record(Tag.STATEMENT_LEAF, leaf), leaf.billed_prompt, leaf.tokens)


def join_nodes(left: SumNode, right: SumNode) -> SumNode:
    """The parent of two nodes. It binds the sums of both, so that no sum can be moved between them."""
    parts = _pack_node(left) + _pack_node(right)
    return SumNode(hash_tagged(Tag.STATEMENT_NODE, parts), left.prompt + right.prompt, left.tokens + right.tokens)


def _pack_node(node: SumNode) -> bytes:
    return node.hash + node.prompt.to_bytes(_SUM_BYTES, "big") + node.tokens.to_bytes(_SUM_BYTES, "big")


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
    """The request that covers a point of the statement, 0 <= point < the root's prompt positions and tokens."""
    root = levels[-1][0]
    owns = [one.prompt for one in levels[0]] if point < root.prompt else [one.tokens for one in levels[0]]
    index, left = 0, point if point < root.prompt else point - root.prompt
    while left >= owns[index]:
        left -= owns[index]
        index += 1
    siblings, place = [], index
    for level in levels[:-1]:
        if place ^ 1 < len(level):
            siblings.append(level[place ^ 1])
        place >>= 1
    return StatementPlace(leaves[index], index, tuple(siblings))


def locate(place: StatementPlace, requests: int, root: SumNode, point: int) -> int | None:
    """The position of the placed request that `point` of the statement falls on; None unless the place covers it.

    `requests` and `root` are what the statement says. A token falls on the position that it was drawn at.
    """
    before = count_before(place, requests, root)
    if before is None:
        return None
    leaf = place.leaf
    within = point - before[0]
    if 0 <= within < leaf.billed_prompt:
        return leaf.settled_positions + within
    within = point - root.prompt - before[1]
    return leaf.prompt_tokens - 1 + within if 0 <= within < leaf.tokens else None


def count_before(place: StatementPlace, requests: int, root: SumNode) -> tuple[int, int] | None:
    """Billed prompt positions and tokens of the requests before; None unless the root has the request in this place."""
    if not 0 <= place.index < requests:
        return None
    node, prompt, tokens = make_leaf_node(place.leaf), 0, 0
    index, count, siblings = place.index, requests, list(place.siblings)
    while count > 1:
        if index ^ 1 < count:
            if not siblings:
                return None
            other = siblings.pop(0)
            if node.prompt + other.prompt > root.prompt or node.tokens + other.tokens > root.tokens:
                return None
            if index & 1:
                prompt, tokens = prompt + other.prompt, tokens + other.tokens
                node = join_nodes(other, node)
            else:
                node = join_nodes(node, other)
        index, count = index >> 1, (count + 1) >> 1
    return None if siblings or node != root else (prompt, tokens)
