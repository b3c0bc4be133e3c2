"""The beacon's chain of values, and that a proof serves one height after one beacon only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import proto_specs
from consensus.beacon import (
    compute_beacon,
    compute_beacon_input,
    compute_genesis_beacon,
    prove_beacon,
    verify_beacon,
)
from consensus.vrf import VrfError, proof_to_output
from proto_specs.ed25519 import SigningKey

VECTORS = json.loads((Path(proto_specs.__file__).parent / "vectors" / "beacon.json").read_text())


def test_golden_chain() -> None:
    beacon = compute_genesis_beacon(bytes.fromhex(VECTORS["genesis"]))
    assert beacon.hex() == VECTORS["genesis_beacon"]
    for step in VECTORS["heights"]:
        seed = bytes.fromhex(step["proposer_seed"])
        assert compute_beacon_input(beacon, step["height"]).hex() == step["alpha"]
        proof = prove_beacon(seed, beacon, step["height"])
        assert proof.hex() == step["vrf_proof"]
        following = verify_beacon(SigningKey.from_seed(seed).public_key, beacon, step["height"], proof)
        assert following == compute_beacon(beacon, proof_to_output(proof))
        beacon = following
        assert beacon.hex() == step["beacon"]


def test_a_proof_is_of_one_height_beacon_and_proposer() -> None:
    seed, beacon = b"s" * 32, b"b" * 32
    key = SigningKey.from_seed(seed).public_key
    proof = prove_beacon(seed, beacon, 7)
    verify_beacon(key, beacon, 7, proof)
    for wrong in (
        (key, beacon, 8, proof),
        (key, b"c" * 32, 7, proof),
        (SigningKey.from_seed(b"t" * 32).public_key, beacon, 7, proof),
    ):
        with pytest.raises(VrfError, match="does not verify"):
            verify_beacon(*wrong)
