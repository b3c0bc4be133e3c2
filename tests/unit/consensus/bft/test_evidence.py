"""Double-signing: one canonical form of the proof, and what is no proof."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.bft.errors import EvidenceError
from consensus.bft.evidence import make_duplicate_vote, validate_duplicate_vote
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag
from proto_specs.types.chain import DuplicateVote, Vote, VoteKind, compute_vote_bytes

GENESIS = b"g" * 32
KEY = SigningKey.from_seed(b"k" * 32)
OTHER_KEY = SigningKey.from_seed(b"o" * 32)


def sign(
    block_hash: bytes | None, kind: int = VoteKind.PRECOMMIT, height: int = 4, round_: int = 1, key: SigningKey = KEY
) -> Vote:
    payload = compute_vote_bytes(GENESIS, kind, height, round_, block_hash)
    return Vote(kind, height, round_, block_hash, key.public_key, key.sign(Tag.VOTE_SIGN, payload))


A, B, NIL = sign(b"a" * 32), sign(b"b" * 32), sign(None)


@pytest.mark.parametrize(
    ("one", "other"), [(A, B), (NIL, A), (sign(None, kind=VoteKind.PREVOTE), sign(b"z" * 32, kind=VoteKind.PREVOTE))]
)
def test_either_order_of_arrival_gives_the_same_proof(one: Vote, other: Vote) -> None:
    proof = make_duplicate_vote(one, other)
    assert proof == make_duplicate_vote(other, one) == DuplicateVote(one, other)
    validate_duplicate_vote(proof, GENESIS)


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        pytest.param(DuplicateVote(B, A), "not in order", id="out of order"),
        pytest.param(DuplicateVote(A, NIL), "not in order", id="nil is smallest"),
        pytest.param(DuplicateVote(A, A), "same block", id="one vote twice"),
        pytest.param(DuplicateVote(NIL, NIL), "same block", id="nil twice"),
        pytest.param(DuplicateVote(A, sign(b"b" * 32, round_=2)), "not for the same", id="two rounds"),
        pytest.param(DuplicateVote(A, sign(b"b" * 32, height=5)), "not for the same", id="two heights"),
        pytest.param(DuplicateVote(A, sign(b"b" * 32, kind=VoteKind.PREVOTE)), "not for the same", id="two kinds"),
        pytest.param(DuplicateVote(A, sign(b"b" * 32, key=OTHER_KEY)), "not for the same", id="two validators"),
        pytest.param(DuplicateVote(sign(b"a" * 32, kind=7), sign(b"b" * 32, kind=7)), "number 7", id="no kind"),
        pytest.param(DuplicateVote(A, dataclasses.replace(B, signature=A.signature)), "bad sig", id="second unsigned"),
        pytest.param(DuplicateVote(dataclasses.replace(A, signature=bytes(64)), B), "bad sig", id="first unsigned"),
    ],
)
def test_no_proof(proof: DuplicateVote, reason: str) -> None:
    with pytest.raises(EvidenceError, match=reason):
        validate_duplicate_vote(proof, GENESIS)


def test_proof_of_another_chain() -> None:
    with pytest.raises(EvidenceError, match="bad signature"):
        validate_duplicate_vote(DuplicateVote(A, B), b"h" * 32)
