"""Proof that a validator signed two votes for one slot. Knows not what it costs: that is staking's."""

from __future__ import annotations

from consensus.bft.errors import EvidenceError
from proto_specs.types.chain import DuplicateVote, Vote, VoteKind, is_vote_signed


def make_duplicate_vote(one: Vote, other: Vote) -> DuplicateVote:
    """Evidence in its one canonical order: the vote with the smaller block hash first, nil smallest."""
    first, second = sorted((one, other), key=_order)
    return DuplicateVote(first, second)


def validate_duplicate_vote(evidence: DuplicateVote, genesis: bytes) -> None:
    """Raises EvidenceError unless one key signed both votes for one kind, height and round and different blocks.

    Whether that key was a validator at that height, and whether the evidence has expired, is the caller's to know.
    """
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


def get_slot(vote: Vote) -> tuple[bytes, int, int, int]:
    """What a validator may sign for once: (validator, kind, height, round)."""
    return vote.validator, vote.kind, vote.height, vote.round


def _order(vote: Vote) -> bytes:
    return b"" if vote.block_hash is None else vote.block_hash
