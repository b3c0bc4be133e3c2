"""Writes the proposals of proto_specs/vectors/votes.json anew: `python -m tests.unit.consensus.bft.vectors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import proto_specs
from proto_specs.codec import decode, encode
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.merkle import compute_root
from proto_specs.types.chain import Block, Proposal, compute_block_hash, compute_proposal_bytes, split_block
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


def main() -> None:
    """Rewrite the file."""
    path = DIRECTORY / "votes.json"
    vectors = json.loads(path.read_text())
    vectors["proposals"] = make_proposals(bytes.fromhex(vectors["genesis"]))
    path.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
