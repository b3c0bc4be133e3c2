"""Validators, blocks, votes and proposals for tests of the core. Signatures are blank: the core never looks at them."""

from __future__ import annotations

from proto_specs.types.chain import (
    Block,
    Header,
    Proposal,
    Validator,
    ValidatorSet,
    Vote,
    VoteKind,
    compute_body_root,
    compute_commit_hash,
)
from proto_specs.types.common import ZERO_HASH

BLANK_SIGNATURE = bytes(64)


def make_key(index: int) -> bytes:
    """A key whose order is that of `index`."""
    return index.to_bytes(4, "big") * 8


def make_validators(*powers: int) -> ValidatorSet:
    """One validator per power, keys rising."""
    return ValidatorSet(tuple(Validator(make_key(at + 1), bytes(32), power) for at, power in enumerate(powers)))


def make_block(height: int, proposer: bytes, salt: int = 0) -> Block:
    """An empty block that hangs together; `salt` makes another one of the same slot."""
    header = Header(
        height=height,
        parent_hash=ZERO_HASH,
        time_ms=salt,
        proposer=proposer,
        vrf_proof=bytes(80),
        validators_hash=ZERO_HASH,
        last_commit_hash=compute_commit_hash(None),
        body_root=compute_body_root((), ()),
        state_root=ZERO_HASH,
        receipts_root=ZERO_HASH,
    )
    return Block(header, (), (), None)


def make_vote(kind: VoteKind, height: int, round_: int, block_hash: bytes | None, validator: bytes) -> Vote:
    """A vote with a blank signature."""
    return Vote(kind, height, round_, block_hash, validator, BLANK_SIGNATURE)


def make_proposal(height: int, round_: int, valid_round: int | None, block: Block, proposer: bytes) -> Proposal:
    """A proposal with a blank signature."""
    return Proposal(height, round_, valid_round, block, proposer, BLANK_SIGNATURE)
