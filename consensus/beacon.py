"""The randomness beacon: what a proposer proves, and how each proof gives the next beacon. Knows no headers."""

from __future__ import annotations

from consensus.vrf import prove, verify
from proto_specs.hashing import Tag, hash_tagged


def compute_genesis_beacon(genesis: bytes) -> bytes:
    """beacon(0), from the 32-byte genesis hash."""
    return hash_tagged(Tag.BEACON, genesis)


def compute_beacon_input(previous_beacon: bytes, height: int) -> bytes:
    """The VRF's input at `height`. The parent fixes it, so a proposer has one output and can only withhold it."""
    return hash_tagged(Tag.BEACON_INPUT, previous_beacon + height.to_bytes(8, "big"))


def compute_beacon(previous_beacon: bytes, vrf_output: bytes) -> bytes:
    """The beacon of block h, from the beacon of block h-1 and the 64-byte VRF output of the header's proof."""
    return hash_tagged(Tag.BEACON, previous_beacon + vrf_output)


def prove_beacon(secret_seed: bytes, previous_beacon: bytes, height: int) -> bytes:
    """The 80-byte `vrf_proof` of a header at `height` by the proposer's consensus key."""
    return prove(secret_seed, compute_beacon_input(previous_beacon, height))


def verify_beacon(proposer: bytes, previous_beacon: bytes, height: int, vrf_proof: bytes) -> bytes:
    """beacon(height), given a header's proposer and proof. Raises VrfError unless the proof verifies."""
    output = verify(proposer, compute_beacon_input(previous_beacon, height), vrf_proof)
    return compute_beacon(previous_beacon, output)
