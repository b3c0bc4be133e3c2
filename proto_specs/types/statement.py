"""A statement: many finished requests of one session on one path, settled at once for the price of one (DESIGN 5.1).

Client and all workers of the path sign the same totals, so the chain checks as many signatures as the path has stages,
however many requests there are. Who does not sign leaves the others the settlement of each request by itself.

The requests are leaves of a Merkle sum tree: a node's sum is that of its leaves' own positions. The beacon draws a
point below the root's sum; the opening shows the leaf that covers it, so windows are drawn in proportion to work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U32, U64, Max, encode, record
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.hashing import Tag, hash_record, hash_tagged
from proto_specs.types.common import Balance, Hash32, Signature
from proto_specs.types.request import PathStage

_SUM_BYTES = 8


@record
class Span:
    """The numbers [start, end)."""

    start: U64
    end: U64


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
class Statement:
    """The totals of `requests` requests. `prompt_tokens` are billed prompt positions, `positions` the root's sum.

    `sequences` and `slices` are the requests' numbers and slices, joined, ascending, with gaps between them.
    """

    genesis: Hash32
    session: Hash32
    path: Annotated[tuple[PathStage, ...], Max(limits.STAGES_MAX)]
    requests: U32
    prompt_tokens: U64
    tokens: U64
    positions: U64
    sequences: Annotated[tuple[Span, ...], Max(limits.STATEMENT_SPANS_MAX)]
    slices: Annotated[tuple[Span, ...], Max(limits.STATEMENT_SPANS_MAX)]
    root: Hash32


@record
class SignedStatement:
    """A statement under the session key and, in path order, under every stage's worker key."""

    statement: Statement
    client_signature: Signature
    worker_signatures: Annotated[tuple[Signature, ...], Max(limits.STAGES_MAX)]


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


def compute_statement_id(statement: Statement) -> bytes:
    """The 32-byte id: what a settled statement is known by on chain, as a settled request is by its own."""
    return hash_record(Tag.STATEMENT, statement)


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
    before = count_before(place, requests, root)
    if before is None:
        return None
    within = point - before
    return within if 0 <= within < place.leaf.own_positions else None


def count_before(place: StatementPlace, requests: int, root: SumNode) -> int | None:
    """Positions of the statement before the request; None unless the statement of this root has it in this place."""
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
    return None if siblings or node != root else before


def sign_statement_as_client(statement: Statement, session_key: SigningKey) -> bytes:
    """The session key's signature."""
    return session_key.sign(Tag.STATEMENT_CLIENT_SIGN, encode(statement))


def sign_statement_as_worker(statement: Statement, worker_key: SigningKey) -> bytes:
    """A worker key's signature."""
    return worker_key.sign(Tag.STATEMENT_WORKER_SIGN, encode(statement))


def is_statement_signed(signed: SignedStatement, session_key: bytes) -> bool:
    """Whether the session key and every worker of the path signed."""
    data, path = encode(signed.statement), signed.statement.path
    return (
        len(signed.worker_signatures) == len(path)
        and is_signature_valid(session_key, Tag.STATEMENT_CLIENT_SIGN, data, signed.client_signature)
        and all(
            is_signature_valid(stage.worker, Tag.STATEMENT_WORKER_SIGN, data, signature)
            for stage, signature in zip(path, signed.worker_signatures, strict=True)
        )
    )
