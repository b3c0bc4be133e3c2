"""A commit proves a decision, or is rejected with the reason."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.bft.commit import verify_commit, verify_commit_shape
from consensus.bft.errors import CommitError
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag
from proto_specs.types.chain import Commit, CommitSignature, Validator, ValidatorSet, VoteKind, compute_vote_bytes

GENESIS = b"g" * 32
BLOCK = b"b" * 32
HEIGHT = 9
KEYS = sorted((SigningKey.from_seed(bytes([at]) * 32) for at in range(4)), key=lambda key: key.public_key)
STRANGER = SigningKey.from_seed(b"s" * 32)


def make_set(*powers: int) -> ValidatorSet:
    return ValidatorSet(
        tuple(Validator(key.public_key, bytes(32), power) for key, power in zip(KEYS, powers, strict=False))
    )


def sign(
    key: SigningKey, kind: VoteKind = VoteKind.PRECOMMIT, round_: int = 2, genesis: bytes = GENESIS
) -> CommitSignature:
    payload = compute_vote_bytes(genesis, kind, HEIGHT, round_, BLOCK)
    return CommitSignature(key.public_key, key.sign(Tag.VOTE_SIGN, payload))


def make_commit(*signatures: CommitSignature) -> Commit:
    return Commit(HEIGHT, 2, BLOCK, signatures)


GOOD = make_commit(*(sign(key) for key in KEYS[:3]))


@pytest.mark.parametrize("senders", [3, 4])
def test_good_commit(senders: int) -> None:
    commit = make_commit(*(sign(key) for key in KEYS[:senders]))
    verify_commit(commit, make_set(1, 1, 1, 1), GENESIS, HEIGHT, BLOCK)


@pytest.mark.parametrize(
    ("commit", "reason"),
    [
        pytest.param(dataclasses.replace(GOOD, height=8), "for height 8", id="another height"),
        pytest.param(dataclasses.replace(GOOD, block_hash=b"c" * 32), "for block", id="another block"),
        pytest.param(make_commit(), "power 0 of 4", id="nobody"),
        pytest.param(make_commit(*GOOD.signatures[:2]), "power 2 of 4", id="two of four"),
        pytest.param(make_commit(*GOOD.signatures[:2], GOOD.signatures[1]), "does not rise", id="one twice"),
        pytest.param(make_commit(*reversed(GOOD.signatures)), "does not rise", id="out of order"),
        pytest.param(
            make_commit(*sorted((*GOOD.signatures, sign(STRANGER)), key=lambda one: one.validator)),
            "not a validator",
            id="a stranger besides a quorum",
        ),
        pytest.param(
            make_commit(*GOOD.signatures, sign(KEYS[3], kind=VoteKind.PREVOTE)),
            "bad precommit signature",
            id="a prevote besides a quorum",
        ),
        pytest.param(dataclasses.replace(GOOD, round=3), "bad precommit signature", id="another round"),
        pytest.param(
            make_commit(*(sign(key, genesis=b"h" * 32) for key in KEYS[:3])),
            "bad precommit signature",
            id="another chain",
        ),
    ],
)
def test_bad_commit(commit: Commit, reason: str) -> None:
    with pytest.raises(CommitError, match=reason):
        verify_commit(commit, make_set(1, 1, 1, 1), GENESIS, HEIGHT, BLOCK)


def test_exactly_two_thirds_are_not_enough() -> None:
    commit = make_commit(*(sign(key) for key in KEYS[:2]))
    with pytest.raises(CommitError, match="power 200 of 300"):
        verify_commit_shape(commit, make_set(100, 100, 100), HEIGHT, BLOCK)
    verify_commit_shape(commit, make_set(100, 101, 100), HEIGHT, BLOCK)
