"""The VRF against RFC 9381's vectors, and that nothing but honest proofs verifies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import proto_specs
from consensus.vrf import PROOF_BYTES, VrfError, proof_to_output, prove, verify
from proto_specs.ed25519 import SigningKey

VECTORS = json.loads((Path(proto_specs.__file__).parent / "vectors" / "vrf.json").read_text())
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
SEED, ALPHA = b"seed" * 8, b"alpha"
PUBLIC_KEY = SigningKey.from_seed(SEED).public_key
PROOF = prove(SEED, ALPHA)


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in VECTORS["proofs"]])
def test_published_vectors(vector: dict[str, str]) -> None:
    read = {name: bytes.fromhex(text) for name, text in vector.items() if name != "name"}
    assert SigningKey.from_seed(read["secret_seed"]).public_key == read["public_key"]
    assert prove(read["secret_seed"], read["alpha"]) == read["proof"]
    assert verify(read["public_key"], read["alpha"], read["proof"]) == read["output"]
    assert proof_to_output(read["proof"]) == read["output"]


@given(seed=st.binary(min_size=32, max_size=32), alpha=st.binary(max_size=100))
@settings(max_examples=60, deadline=None)
def test_round_trip(seed: bytes, alpha: bytes) -> None:
    proof = prove(seed, alpha)
    output = verify(SigningKey.from_seed(seed).public_key, alpha, proof)
    assert (len(proof), len(output)) == (PROOF_BYTES, 64)
    assert output == proof_to_output(proof)
    assert proof == prove(seed, alpha)


@pytest.mark.parametrize("bit", range(8 * PROOF_BYTES))
def test_every_flipped_bit_is_rejected(bit: int) -> None:
    bad = bytearray(PROOF)
    bad[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VrfError):
        verify(PUBLIC_KEY, ALPHA, bytes(bad))


def test_another_key_or_input_is_rejected() -> None:
    with pytest.raises(VrfError, match="does not verify"):
        verify(SigningKey.from_seed(b"deed" * 8).public_key, ALPHA, PROOF)
    with pytest.raises(VrfError, match="does not verify"):
        verify(PUBLIC_KEY, ALPHA + b"\x00", PROOF)


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in VECTORS["rejected_points"]])
def test_bad_points_are_rejected_as_key_and_as_gamma(vector: dict[str, str]) -> None:
    point = bytes.fromhex(vector["point"])
    with pytest.raises(VrfError, match="public key"):
        verify(point, ALPHA, PROOF)
    with pytest.raises(VrfError, match="Gamma"):
        verify(PUBLIC_KEY, ALPHA, point + PROOF[32:])
    with pytest.raises(VrfError, match="Gamma"):
        proof_to_output(point + PROOF[32:])


def test_scalar_has_one_encoding() -> None:
    s = int.from_bytes(PROOF[48:], "little")
    for other in (s + GROUP_ORDER, GROUP_ORDER, 0):
        with pytest.raises(VrfError, match="out of range"):
            verify(PUBLIC_KEY, ALPHA, PROOF[:48] + other.to_bytes(32, "little"))


def test_zero_challenge_is_rejected() -> None:
    with pytest.raises(VrfError, match="out of range"):
        verify(PUBLIC_KEY, ALPHA, PROOF[:32] + bytes(16) + PROOF[48:])


@pytest.mark.parametrize("length", [0, 79, 81])
def test_lengths(length: int) -> None:
    with pytest.raises(VrfError, match=f"got {length}"):
        verify(PUBLIC_KEY, ALPHA, PROOF.ljust(81, b"\x00")[:length])
    with pytest.raises(VrfError, match="public key"):
        verify(PUBLIC_KEY[:31], ALPHA, PROOF)
    with pytest.raises(ValueError, match="got 31"):
        prove(SEED[:31], ALPHA)
