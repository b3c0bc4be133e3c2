"""Double-signing: one canonical form of the proof, and what is no proof."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.bft.errors import EvidenceError
from consensus.bft.evidence import (
    do_proposals_differ,
    get_accused,
    make_duplicate_proposal,
    make_duplicate_vote,
    validate_signatures,
)
from proto_specs.codec import encode
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag
from proto_specs.types.chain import (
    DuplicateProposal,
    DuplicateVote,
    Evidence,
    ProposalHead,
    ProposalSignBytes,
    Vote,
    VoteKind,
    compute_vote_bytes,
)

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
    validate_signatures(proof, GENESIS)


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
def test_no_proof(proof: Evidence, reason: str) -> None:
    with pytest.raises(EvidenceError, match=reason):
        validate_signatures(proof, GENESIS)


def test_proof_of_another_chain() -> None:
    with pytest.raises(EvidenceError, match="bad signature"):
        validate_signatures(DuplicateVote(A, B), b"h" * 32)


def propose(
    block_hash: bytes = b"m" * 32,
    parts_root: bytes = b"m" * 32,
    parts_count: int = 5,
    valid_round: int | None = 3,
    height: int = 4,
    round_: int = 6,
    key: SigningKey = KEY,
) -> ProposalHead:
    payload = encode(ProposalSignBytes(GENESIS, height, round_, valid_round, block_hash, parts_root, parts_count))
    signature = key.sign(Tag.PROPOSAL_SIGN, payload)
    return ProposalHead(height, round_, valid_round, block_hash, parts_root, parts_count, key.public_key, signature)


HEAD = propose()
UNSIGNED = dataclasses.replace(HEAD, signature=bytes(64))


@pytest.mark.parametrize(
    "greater",
    [
        pytest.param(propose(block_hash=b"n" * 32, parts_root=bytes(32)), id="block"),
        pytest.param(propose(parts_root=b"n" * 32, parts_count=1), id="parts of one header"),
        pytest.param(propose(parts_count=6, valid_round=None), id="number of parts"),
        pytest.param(propose(valid_round=4), id="valid round"),
    ],
)
def test_two_proposals_are_one_proof_whichever_came_first(greater: ProposalHead) -> None:
    proof = DuplicateProposal(HEAD, greater)
    assert make_duplicate_proposal(HEAD, greater) == make_duplicate_proposal(greater, HEAD) == proof
    validate_signatures(proof, GENESIS)
    assert get_accused(proof) == KEY.public_key
    with pytest.raises(EvidenceError, match="not in order"):
        validate_signatures(DuplicateProposal(greater, HEAD), GENESIS)


def test_a_new_block_comes_before_the_same_one_proposed_again() -> None:
    new = propose(valid_round=None)
    proof = make_duplicate_proposal(propose(valid_round=0), new)
    assert proof.first == new
    validate_signatures(proof, GENESIS)


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        pytest.param(DuplicateProposal(HEAD, HEAD), "say the same", id="one proposal twice"),
        pytest.param(DuplicateProposal(UNSIGNED, HEAD), "say the same", id="one proposal, two signatures"),
        pytest.param(
            DuplicateProposal(HEAD, propose(round_=7)), "not of the same", id="proposed again in another round"
        ),
        pytest.param(DuplicateProposal(HEAD, propose(b"n" * 32, height=5)), "not of the same", id="two heights"),
        pytest.param(DuplicateProposal(HEAD, propose(b"n" * 32, key=OTHER_KEY)), "not of the same", id="two keys"),
        pytest.param(DuplicateProposal(UNSIGNED, propose(b"n" * 32)), "bad sig", id="first unsigned"),
        pytest.param(
            DuplicateProposal(HEAD, dataclasses.replace(propose(b"n" * 32), signature=HEAD.signature)),
            "bad sig",
            id="second unsigned",
        ),
    ],
)
def test_no_proof_of_two_proposals(proof: DuplicateProposal, reason: str) -> None:
    with pytest.raises(EvidenceError, match=reason):
        validate_signatures(proof, GENESIS)


def test_two_proposals_of_another_chain() -> None:
    with pytest.raises(EvidenceError, match="bad signature"):
        validate_signatures(DuplicateProposal(HEAD, propose(b"n" * 32)), b"h" * 32)


def test_a_signature_is_no_difference() -> None:
    """Ed25519 lets a signer sign one thing in many ways; only what is said is an offence."""
    assert not do_proposals_differ(HEAD, UNSIGNED)
