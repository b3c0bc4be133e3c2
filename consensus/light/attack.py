"""The evidence a light client has of a fork: both blocks, their common ancestor, and the convicted keys. Pure."""

from __future__ import annotations

import enum

from consensus.bft.evidence import make_duplicate_vote
from proto_specs.codec import U64, record
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    DuplicateVote,
    Evidence,
    FalseVote,
    Vote,
    VoteKind,
    compute_block_hash,
)
from proto_specs.types.common import Hash32
from proto_specs.types.gossip import LightBlock


@record
class LightAttack:
    """Two blocks of one height that both follow, by a light client's rules, from one common block.

    `first` is the one with the smaller hash, so one attack has one encoding.
    """

    common_height: U64
    common_hash: Hash32
    first: LightBlock
    second: LightBlock


class AttackKind(enum.Enum):
    """How the signers of both blocks broke the protocol; light.md says which kinds the chain can punish."""

    EQUIVOCATION = "equivocation"
    """One set, one round: each signer of both blocks signed two precommits for one slot."""
    AMNESIA = "amnesia"
    """One set, two rounds: some signers ignored their lock. The votes alone do not tell which ones."""
    LUNATIC = "lunatic"
    """Two sets: one of them was never elected, and every signer under it is guilty."""


def make_attack(common_height: int, common_hash: bytes, one: LightBlock, other: LightBlock) -> LightAttack:
    """Evidence in its canonical order: the block with the smaller hash first."""
    first, second = sorted((one, other), key=lambda block: compute_block_hash(block.header))
    return LightAttack(common_height, common_hash, first, second)


def classify_attack(attack: LightAttack) -> AttackKind:
    """The kind of the attack. The caller has verified both blocks."""
    first, second = attack.first, attack.second
    if first.header.validators_hash != second.header.validators_hash:
        return AttackKind.LUNATIC
    return AttackKind.EQUIVOCATION if first.commit.round == second.commit.round else AttackKind.AMNESIA


def list_double_votes(attack: LightAttack) -> tuple[DuplicateVote, ...]:
    """The evidence that the chain accepts (consensus.md), sorted by key: each key in both commits of one round."""
    first, second = attack.first.commit, attack.second.commit
    if first.round != second.round:
        return ()
    others = {one.validator: one for one in second.signatures}
    return tuple(
        make_duplicate_vote(_make_vote(first, one), _make_vote(second, others[one.validator]))
        for one in first.signatures
        if one.validator in others
    )


def list_evidence(attack: LightAttack) -> tuple[Evidence, ...]:
    """All that a chain may punish in it: double votes, and each signed header. A chain takes those of the blocks that
    are not its own, where their headers contradict it (consensus.md)."""
    false_votes = (
        FalseVote(_make_vote(block.commit, one), block.header)
        for block in (attack.first, attack.second)
        for one in block.commit.signatures
    )
    return (*list_double_votes(attack), *false_votes)


def _make_vote(commit: Commit, one: CommitSignature) -> Vote:
    return Vote(VoteKind.PRECOMMIT, commit.height, commit.round, commit.block_hash, one.validator, one.signature)
