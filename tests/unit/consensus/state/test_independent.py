"""Somebody else's fifty lines agree with the node, on golden proofs and on a chain, and are as hard to fool."""

from __future__ import annotations

import json
from pathlib import Path

import proto_specs
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import Header
from tests.unit.consensus.state import independent
from tests.unit.consensus.state.independent import hashed, is_proven, parse
from tests.unit.node.store.test_history import grow
from tests.unit.node.world import World

VECTORS = Path(proto_specs.__file__).parent / "vectors" / "state_tree.json"
ABSENT = b"balances.account:nobody"


def make_header(root: bytes) -> tuple[bytes, bytes]:
    """(hash, bytes) of some header over a root."""
    zero = bytes(32)
    header = encode(Header(300, zero, 70_000, zero, bytes(80), zero, zero, zero, root, zero))
    return hash_tagged(Tag.HEADER, header), header


def get_kind(key: bytes, proof: bytes) -> str:
    """What stands where the path ends."""
    (pages,), _ = parse(proof, 0)
    if not pages:
        return "empty tree"
    if not pages[-1][0]:
        return "empty slot"
    return "membership" if hashed("state-key", key) in pages[-1] else "other leaves"


def test_it_is_fifty_lines_and_imports_hashlib_alone() -> None:
    source = Path(independent.__file__).read_text().splitlines()
    assert len([line for line in source if line.strip()]) <= 50
    assert [line for line in source if "import " in line and not line.startswith('"""')] == [
        "from hashlib import blake2b",
        "from typing import Any",
    ]


def test_golden_proofs_of_every_kind_hold_and_prove_nothing_else() -> None:
    vectors = json.loads(VECTORS.read_text())
    kinds = set()
    for one in vectors["proofs"]:
        key, proof = bytes.fromhex(one["key"]), bytes.fromhex(one["proof"])
        value = None if one["value"] is None else bytes.fromhex(one["value"])
        block_hash, header = make_header(bytes.fromhex(vectors["roots"][one["block"]]))
        assert is_proven(block_hash, header, key, value, proof)
        assert not is_proven(block_hash, header, key, b"another value", proof)
        assert not is_proven(block_hash, header, key + b"?", value, proof) or value is None
        assert value is None or not is_proven(block_hash, header, key, None, proof)
        assert not is_proven(bytes(32), header, key, value, proof)
        assert not is_proven(*make_header(bytes([7]) * 32), key, value, proof)
        kinds.add(get_kind(key, proof))
    assert kinds == {"membership", "empty slot", "other leaves", "empty tree"}


def test_a_nodes_proofs_at_every_kept_height_hold(tmp_path: Path) -> None:
    world = World(tmp_path / "db")
    past = grow(world, 12, per_block=6)
    for head, state in past[1:]:
        header = world.store.get_header(head.height)
        view = world.store.view_at(head.height)
        assert header is not None
        for key in [*state, ABSENT]:
            proof = encode(view.prove(key))
            assert is_proven(head.block_hash, encode(header), key, state.get(key), proof)
            flipped = proof[:-1] + bytes([proof[-1] ^ 1])
            assert not is_proven(head.block_hash, encode(header), key, state.get(key), flipped)
    world.store.close()
