"""Golden bytes of everything validators sign or are judged by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import proto_specs
from consensus.bft.commit import compute_commit_sign_bytes, verify_commit
from consensus.bft.evidence import make_duplicate_proposal, make_duplicate_vote, validate_signatures
from proto_specs.codec import decode, decode_as, encode
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import (
    Block,
    Commit,
    DuplicateProposal,
    DuplicateVote,
    Evidence,
    Proposal,
    ValidatorSet,
    Vote,
    compute_proposal_bytes,
    compute_validators_hash,
    compute_vote_bytes,
    get_proposal_head,
    is_proposal_signed,
    is_vote_signed,
)
from proto_specs.types.gossip import split_proposal

VECTORS: dict[str, Any] = json.loads((Path(proto_specs.__file__).parent / "vectors" / "votes.json").read_text())
GENESIS = bytes.fromhex(VECTORS["genesis"])


def unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in VECTORS["votes"]])
def test_vote(vector: dict[str, Any]) -> None:
    key = SigningKey.from_seed(bytes.fromhex(vector["seed"]))
    block_hash = unhex(vector["block_hash"])
    signed = compute_vote_bytes(GENESIS, vector["kind"], vector["height"], vector["round"], block_hash)
    assert signed.hex() == vector["sign_bytes"]
    assert hash_tagged(Tag.VOTE_SIGN, signed).hex() == vector["sign_hash"]
    signature = key.sign(Tag.VOTE_SIGN, signed)
    assert signature.hex() == vector["signature"]
    vote = Vote(vector["kind"], vector["height"], vector["round"], block_hash, key.public_key, signature)
    assert encode(vote).hex() == vector["encoded"]
    assert is_vote_signed(vote, GENESIS)


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in VECTORS["proposals"]])
def test_proposal(vector: dict[str, Any]) -> None:
    block = decode(Block, bytes.fromhex(vector["block"]))
    height, round_, valid_round = vector["height"], vector["round"], vector["valid_round"]
    signed = compute_proposal_bytes(GENESIS, height, round_, valid_round, block)
    assert signed.hex() == vector["sign_bytes"]
    assert hash_tagged(Tag.PROPOSAL_SIGN, signed).hex() == vector["sign_hash"]
    key = SigningKey.from_seed(bytes.fromhex(vector["seed"]))
    signature = key.sign(Tag.PROPOSAL_SIGN, signed)
    assert signature.hex() == vector["signature"]
    proposal = Proposal(height, round_, valid_round, block, key.public_key, signature)
    assert is_proposal_signed(proposal, GENESIS)
    head = get_proposal_head(proposal)
    assert head.block_hash.hex() == vector["block_hash"]
    assert (head.parts_root.hex(), head.parts_count) == (vector["parts_root"], vector["parts_count"])
    assert [encode(part).hex() for part in split_proposal(proposal)] == vector["parts"]


def test_validators_and_commit() -> None:
    vector = VECTORS["commit"]
    validators = decode(ValidatorSet, bytes.fromhex(vector["validators"]))
    assert compute_validators_hash(validators).hex() == vector["validators_hash"]
    commit = decode(Commit, bytes.fromhex(vector["encoded"]))
    assert compute_commit_sign_bytes(commit, GENESIS).hex() == vector["sign_bytes"]
    verify_commit(commit, validators, GENESIS, vector["height"], bytes.fromhex(vector["block_hash"]))


def test_evidence() -> None:
    votes, proposals = (decode_as(Evidence, bytes.fromhex(one["encoded"])) for one in VECTORS["evidence"])
    assert (type(votes), type(proposals)) == (DuplicateVote, DuplicateProposal)
    for one, make in ((votes, make_duplicate_vote), (proposals, make_duplicate_proposal)):
        validate_signatures(one, GENESIS)
        assert make(one.second, one.first) == one
