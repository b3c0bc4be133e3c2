"""Writes proposals and evidence of the vectors in votes.json anew: `python -m tests.unit.consensus.bft.vectors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import proto_specs
from consensus.bft.evidence import make_duplicate_proposal
from proto_specs.codec import decode, decode_as, encode
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.merkle import compute_root
from proto_specs.types.chain import (
    Block,
    DuplicateVote,
    Evidence,
    Proposal,
    compute_block_hash,
    compute_proposal_bytes,
    get_proposal_head,
    split_block,
)
from proto_specs.types.gossip import split_proposal

DIRECTORY = Path(proto_specs.__file__).parent / "vectors"
CASES: tuple[tuple[str, int, int, int | None], ...] = (("new block", 1, 0, None), ("block proposed again", 2, 5, 2))


def make_proposals(genesis: bytes) -> list[dict[str, Any]]:
    """Blocks of blocks.json, proposed by keys of known seeds."""
    blocks = json.loads((DIRECTORY / "blocks.json").read_text())["blocks"]
    found = []
    for (name, place, round_, valid_round), seed in zip(CASES, (b"\1" * 32, b"\2" * 32), strict=True):
        block = decode(Block, bytes.fromhex(blocks[place - 1]["block"]))
        key, height = SigningKey.from_seed(seed), block.header.height
        signed = compute_proposal_bytes(genesis, height, round_, valid_round, block)
        signature = key.sign(Tag.PROPOSAL_SIGN, signed)
        parts = split_block(block)
        proposal = Proposal(height, round_, valid_round, block, key.public_key, signature)
        found.append(
            {
                "name": name,
                "seed": seed.hex(),
                "height": height,
                "round": round_,
                "valid_round": valid_round,
                "block": encode(block).hex(),
                "block_hash": compute_block_hash(block.header).hex(),
                "parts_root": compute_root(parts).hex(),
                "parts_count": len(parts),
                "sign_bytes": signed.hex(),
                "sign_hash": hash_tagged(Tag.PROPOSAL_SIGN, signed).hex(),
                "signature": signature.hex(),
                "parts": [encode(part).hex() for part in split_proposal(proposal)],
            }
        )
    return found


def make_evidence(genesis: bytes, votes: DuplicateVote) -> list[dict[str, Any]]:
    """The votes as given, and two proposals of a round that differ in nothing but their valid round."""
    blocks = json.loads((DIRECTORY / "blocks.json").read_text())["blocks"]
    block = decode(Block, bytes.fromhex(blocks[1]["block"]))
    key, height = SigningKey.from_seed(b"\2" * 32), block.header.height
    heads = []
    for valid_round in (2, None):
        signed = compute_proposal_bytes(genesis, height, 5, valid_round, block)
        signature = key.sign(Tag.PROPOSAL_SIGN, signed)
        heads.append(get_proposal_head(Proposal(height, 5, valid_round, block, key.public_key, signature)))
    named: list[tuple[str, Evidence]] = [("two votes", votes), ("two proposals", make_duplicate_proposal(*heads))]
    return [{"name": name, "encoded": encode(one, Evidence).hex()} for name, one in named]


def main() -> None:
    """Rewrite the file."""
    path = DIRECTORY / "votes.json"
    vectors = json.loads(path.read_text())
    genesis = bytes.fromhex(vectors["genesis"])
    vectors["proposals"] = make_proposals(genesis)
    votes = decode_as(Evidence, bytes.fromhex(vectors["evidence"][0]["encoded"]))
    vectors["evidence"] = make_evidence(genesis, votes)
    path.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
