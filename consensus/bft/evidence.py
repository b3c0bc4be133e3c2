"""Proof that a validator signed two votes or proposals for one slot, or a vote for a header that contradicts the chain.

The staking module decides what that costs, and what contradicts the chain.
"""

from __future__ import annotations

from consensus.bft.errors import EvidenceError
from proto_specs.types.chain import (
    DuplicateProposal,
    DuplicateVote,
    Evidence,
    FalseVote,
    ProposalHead,
    Vote,
    VoteKind,
    compute_block_hash,
    is_proposal_head_signed,
    is_vote_signed,
)


def make_duplicate_vote(one: Vote, other: Vote) -> DuplicateVote:
    """Builds the evidence in its canonical order: the vote with the smaller block hash first; nil is the smallest."""
    first, second = sorted((one, other), key=_order)
    return DuplicateVote(first, second)


def make_duplicate_proposal(one: ProposalHead, other: ProposalHead) -> DuplicateProposal:
    """Builds the evidence in its canonical order: by block hash, then parts, then valid round; nil sorts below 0."""
    first, second = sorted((one, other), key=_order_heads)
    return DuplicateProposal(first, second)


def validate_signatures(evidence: Evidence, genesis: bytes) -> None:
    """Raises EvidenceError unless one key signed both messages for one slot, in order, and they differ; or signed a
    precommit for the header shown, which the caller judges.

    The caller checks whether the key was a validator at that height and whether the evidence has expired.
    """
    match evidence:
        case DuplicateVote():
            validate_duplicate_vote(evidence, genesis)
        case DuplicateProposal():
            validate_duplicate_proposal(evidence, genesis)
        case FalseVote():
            validate_false_vote(evidence, genesis)


def validate_duplicate_vote(evidence: DuplicateVote, genesis: bytes) -> None:
    """Raises EvidenceError unless one key signed both votes for one kind, height and round and different blocks."""
    first, second = evidence.first, evidence.second
    if get_slot(first) != get_slot(second):
        raise EvidenceError("the votes are not for the same validator, kind, height and round")
    if first.kind not in (VoteKind.PREVOTE, VoteKind.PRECOMMIT):
        raise EvidenceError(f"no kind of vote has the number {first.kind}")
    if _order(first) >= _order(second):
        raise EvidenceError("the votes are for the same block, or not in order")
    for vote in (first, second):
        if not is_vote_signed(vote, genesis):
            raise EvidenceError(f"bad signature of {vote.validator.hex()[:16]}… at height {vote.height}")


def validate_duplicate_proposal(evidence: DuplicateProposal, genesis: bytes) -> None:
    """Raises EvidenceError unless one key signed both heads for one height and round, and what they say differs."""
    first, second = evidence.first, evidence.second
    if (first.proposer, first.height, first.round) != (second.proposer, second.height, second.round):
        raise EvidenceError("the proposals are not of the same proposer, height and round")
    if _order_heads(first) >= _order_heads(second):
        raise EvidenceError("the proposals say the same, or are not in order")
    for head in (first, second):
        if not is_proposal_head_signed(head, genesis):
            raise EvidenceError(f"bad signature of {head.proposer.hex()[:16]}… at height {head.height}")


def validate_false_vote(evidence: FalseVote, genesis: bytes) -> None:
    """Raises EvidenceError unless the vote is a signed precommit for the header."""
    vote = evidence.vote
    if vote.kind != VoteKind.PRECOMMIT:
        raise EvidenceError("only a precommit says that its signer found the block valid")
    if vote.block_hash != compute_block_hash(evidence.header):
        raise EvidenceError("the vote is for another header")
    if not is_vote_signed(vote, genesis):
        raise EvidenceError(f"bad signature of {vote.validator.hex()[:16]}… at height {vote.height}")


def get_offence_height(evidence: Evidence) -> int:
    """The height that the messages are for."""
    return evidence.vote.height if isinstance(evidence, FalseVote) else evidence.first.height


def do_proposals_differ(one: ProposalHead, other: ProposalHead) -> bool:
    """Whether two proposals of one proposer and slot differ in content. Signatures are not compared."""
    return _order_heads(one) != _order_heads(other)


def get_slot(vote: Vote) -> tuple[bytes, int, int, int]:
    """The slot of a vote: (validator, kind, height, round). A validator may sign one vote for each slot."""
    return vote.validator, vote.kind, vote.height, vote.round


def get_accused(evidence: Evidence) -> bytes:
    """The key that signed."""
    match evidence:
        case DuplicateVote():
            return evidence.first.validator
        case DuplicateProposal():
            return evidence.first.proposer
        case FalseVote():
            return evidence.vote.validator


def _order(vote: Vote) -> bytes:
    return b"" if vote.block_hash is None else vote.block_hash


def _order_heads(head: ProposalHead) -> tuple[bytes, bytes, int, int]:
    """The fields that a proposal signs for its slot, as a sort key."""
    valid_round = -1 if head.valid_round is None else head.valid_round
    return head.block_hash, head.parts_root, head.parts_count, valid_round
