"""Checks that a commit (quorum certificate) proves a decision. Used by sync, light clients and block validation."""

from __future__ import annotations

import itertools

from consensus.bft.errors import CommitError
from consensus.bft.validators import PowerTable
from proto_specs.ed25519 import is_signature_valid
from proto_specs.hashing import Tag
from proto_specs.types.chain import Commit, ValidatorSet, VoteKind, compute_vote_bytes


def verify_commit(commit: Commit, validators: ValidatorSet, genesis: bytes, height: int, block_hash: bytes) -> None:
    """Raises CommitError unless `commit` decides `block_hash` at `height` under the validators of that height.

    Every signature must verify, not only enough of them: the next header hashes the whole commit.
    """
    verify_commit_shape(commit, validators, height, block_hash)
    signed = compute_commit_sign_bytes(commit, genesis)
    for one in commit.signatures:
        if not is_signature_valid(one.validator, Tag.VOTE_SIGN, signed, one.signature):
            raise CommitError(f"bad precommit signature of {one.validator.hex()[:16]}… at height {commit.height}")


def verify_commit_shape(commit: Commit, validators: ValidatorSet, height: int, block_hash: bytes) -> None:
    """Checks what `verify_commit` does but the signatures; the caller verifies them in bulk. Raises CommitError."""
    if commit.height != height:
        raise CommitError(f"commit is for height {commit.height}, expected {height}")
    if commit.block_hash != block_hash:
        raise CommitError(f"commit is for block {commit.block_hash.hex()[:16]}…, expected {block_hash.hex()[:16]}…")
    keys = [one.validator for one in commit.signatures]
    for before, after in itertools.pairwise(keys):
        if before >= after:
            raise CommitError(f"key {after.hex()[:16]}… does not rise above {before.hex()[:16]}…")
    table = PowerTable(validators)
    for key in keys:
        if key not in table:
            raise CommitError(f"{key.hex()[:16]}… is not a validator of height {height}")
    power = sum(table.get_power(key) for key in keys)
    if not table.is_quorum(power):
        raise CommitError(f"power {power} of {table.total} is not more than two thirds")


def compute_commit_sign_bytes(commit: Commit, genesis: bytes) -> bytes:
    """What each signature of the commit covers: the precommit of its height, round and block."""
    return compute_vote_bytes(genesis, VoteKind.PRECOMMIT, commit.height, commit.round, commit.block_hash)
