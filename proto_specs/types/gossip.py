"""What nodes of a chain say to each other: messages everybody gets, and requests with their responses."""

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


# Gossip: each kind has a topic of its own, `compute_topic(kind, genesis)`.


@record
class ProposalPart:
    """One part of a proposed block, with its place under the root the proposer signed."""

    head: ProposalHead
    index: U16
    data: Annotated[bytes, Max(limits.PART_BYTES)]
    proof: Annotated[tuple[Hash32, ...], Max(limits.PART_PROOF_MAX)]


@record
class TransactionBatch:
    """Transactions that wait, from a node that has just admitted them."""

    transactions: Annotated[tuple[Transaction, ...], Max(limits.BATCH_TRANSACTIONS_MAX)]


def compute_topic(kind: str, genesis: bytes) -> str:
    """The GossipSub topic of `votes`, `proposals`, `evidence` or `transactions` on one chain."""
    return f"/myelin/{genesis.hex()[:16]}/{kind}/1"


def split_proposal(proposal: Proposal) -> tuple[ProposalPart, ...]:
    """The parts that, together, are the proposal."""
    head, parts = get_proposal_head(proposal), split_block(proposal.block)
    return tuple(ProposalPart(head, index, data, compute_proof(parts, index)) for index, data in enumerate(parts))


def is_part_in_place(part: ProposalPart) -> bool:
    """Whether the part lies under the root its head names. The head's signature is the caller's to check."""
    head = part.head
    return is_proof_valid(head.parts_root, part.data, part.index, head.parts_count, part.proof)


# Exchange: what a node that lacks something asks of one that may have it.


@record
class HeldVotes:
    """The votes a node holds for one block (None: nil) in one round; bit i of the bitmap is member i of the set."""

    round: U32
    kind: U8
    block_hash: Hash32 | None
    members: Annotated[bytes, Max(limits.VALIDATORS_MAX // 8)]


@record
class Want:
    """Where a node stands: `height` is the one it decides on, `held` what needs no sending."""

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
    """What the answering node has of that. `head_height` is its last finalized block.

    At the same height: proposals and votes the asker lacks. To one that is behind: the finalized block it works on.
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
    """As many as fit the response; none when the node has not got `start`, or not any more."""

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
    """A message is known by its content alone, whoever sent it."""
    return hashlib.blake2b(data, digest_size=20).digest()
