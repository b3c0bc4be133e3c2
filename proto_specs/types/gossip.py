"""The messages between nodes of a chain: gossip to all, and requests with their responses."""

from __future__ import annotations

import hashlib
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, U16, U32, U64, Max, record
from proto_specs.merkle import compute_proof, is_proof_valid
from proto_specs.types.chain import (
    Block,
    Commit,
    Header,
    Proposal,
    ProposalHead,
    Transaction,
    ValidatorSet,
    Vote,
    get_proposal_head,
    split_block,
)
from proto_specs.types.common import Hash32

EXCHANGE_PROTOCOL = "/myelin/exchange/1"
BLOCKS_PROTOCOL = "/myelin/blocks/1"
LIGHT_PROTOCOL = "/myelin/light/1"
SNAPSHOT_PROTOCOL = "/myelin/snapshot/1"


# Gossip: each kind has its own topic, `compute_topic(kind, genesis)`.


@record
class ProposalPart:
    """A part of a proposed block, with its place under the root that the proposer signed."""

    head: ProposalHead
    index: U16
    data: Annotated[bytes, Max(limits.PART_BYTES)]
    proof: Annotated[tuple[Hash32, ...], Max(limits.PART_PROOF_MAX)]


@record
class TransactionBatch:
    """Pending transactions, from a node that has just admitted them."""

    transactions: Annotated[tuple[Transaction, ...], Max(limits.BATCH_TRANSACTIONS_MAX)]


def compute_topic(kind: str, genesis: bytes) -> str:
    """The GossipSub topic of `votes`, `proposals`, `evidence` or `transactions` on a chain."""
    return f"/myelin/{genesis.hex()[:16]}/{kind}/1"


def split_proposal(proposal: Proposal) -> tuple[ProposalPart, ...]:
    """The parts that together make the proposal."""
    head, parts = get_proposal_head(proposal), split_block(proposal.block)
    return tuple(ProposalPart(head, index, data, compute_proof(parts, index)) for index, data in enumerate(parts))


def is_part_in_place(part: ProposalPart) -> bool:
    """Whether the part lies under the root in its head. The caller checks the head's signature."""
    head = part.head
    return is_proof_valid(head.parts_root, part.data, part.index, head.parts_count, part.proof)


# Exchange: a node that lacks something asks a node that may have it.


@record
class HeldVotes:
    """The votes that a node holds for a block (None: nil) in a round; bit i of the bitmap is member i of the set."""

    round: U32
    kind: U8
    block_hash: Hash32 | None
    members: Annotated[bytes, Max(limits.VALIDATORS_MAX // 8)]


@record
class Want:
    """A node's position: `height` is the height it decides on, `held` the messages that need no sending."""

    height: U64
    round: U32
    held_proposals: Annotated[tuple[U32, ...], Max(limits.EXCHANGE_ROUNDS_MAX)]
    held_votes: Annotated[tuple[HeldVotes, ...], Max(limits.EXCHANGE_SLOTS_MAX)]


@record
class FinalBlock:
    """A block with the commit that finalized it."""

    block: Block
    commit: Commit


@record
class ExchangeOffer:
    """The wanted messages that the answering node has. `head_height` is its last finalized block.

    To a node at the same height: the proposals and votes it lacks. To a node behind: the finalized block of its height.
    """

    head_height: U64
    proposals: Annotated[tuple[Proposal, ...], Max(limits.EXCHANGE_PROPOSALS_MAX)]
    votes: Annotated[tuple[Vote, ...], Max(limits.EXCHANGE_VOTES_MAX)]
    decided: FinalBlock | None


@record
class BlocksRequest:
    """Finalized blocks from `start` on, at most `count`."""

    start: U64
    count: U32


@record
class BlocksResponse:
    """As many blocks as fit the response; none when the node does not have `start`."""

    head_height: U64
    blocks: Annotated[tuple[FinalBlock, ...], Max(limits.BLOCKS_RESPONSE_MAX)]


@record
class LightRequest:
    """The light block of a height; 0 is the newest."""

    height: U64


@record
class LightBlock:
    """Enough to verify a header: the commit of its block, and the set that signed it."""

    header: Header
    commit: Commit
    validators: ValidatorSet


@record
class LightResponse:
    """None when the node does not have that height."""

    found: LightBlock | None


def compute_message_id(data: bytes) -> bytes:
    """The id of a message, by its content alone: the sender does not matter."""
    return hashlib.blake2b(data, digest_size=20).digest()
