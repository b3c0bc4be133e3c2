"""Signatures: who signed what, for which purpose, and the edges at which libraries part."""

from __future__ import annotations

import nacl.bindings
import pytest

from proto_specs import ed25519
from proto_specs.ed25519 import SigningKey, is_signature_valid, validate_library
from proto_specs.hashing import Tag, hash_tagged
from tests.vectors import edwards
from tests.vectors.signatures import Case, build_cases

KEY = SigningKey.from_seed(bytes(range(32)))
PAYLOAD = b"what is signed"
SIGNATURE = KEY.sign(Tag.VOTE_SIGN, PAYLOAD)


def test_a_signature_is_over_the_tagged_hash() -> None:
    public_key, secret = nacl.bindings.crypto_sign_seed_keypair(bytes(range(32)))
    assert KEY.public_key == public_key
    assert nacl.bindings.crypto_sign(hash_tagged(Tag.VOTE_SIGN, PAYLOAD), secret)[:64] == SIGNATURE
    assert is_signature_valid(KEY.public_key, Tag.VOTE_SIGN, PAYLOAD, SIGNATURE)


def test_a_signature_for_one_purpose_is_none_for_another() -> None:
    for tag in Tag:
        assert is_signature_valid(KEY.public_key, tag, PAYLOAD, SIGNATURE) is (tag is Tag.VOTE_SIGN)


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(8 * 64):
        flipped = bytearray(SIGNATURE)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not is_signature_valid(KEY.public_key, Tag.VOTE_SIGN, PAYLOAD, bytes(flipped))
    for bit in range(8 * 32):
        flipped = bytearray(KEY.public_key)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not is_signature_valid(bytes(flipped), Tag.VOTE_SIGN, PAYLOAD, SIGNATURE)
    for bit in range(8 * len(PAYLOAD)):
        flipped = bytearray(PAYLOAD)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not is_signature_valid(KEY.public_key, Tag.VOTE_SIGN, bytes(flipped), SIGNATURE)


CASES = build_cases()


@pytest.mark.parametrize("case", CASES, ids=[one.name for one in CASES])
def test_edges(case: Case) -> None:
    assert is_signature_valid(case.key, Tag.EXTRINSIC_SIGN, b"edge", case.signature) is case.is_valid


def test_the_edges_are_edges() -> None:
    """The equation holds for what is refused all the same, or the case would show nothing."""
    by_name = {one.name: one for one in CASES}
    assert sum(one.holds is True for one in CASES if one.name.startswith("key of small order")) == 13
    assert by_name["R of small order: 0 x torsion"].holds
    assert by_name["S + L: the same scalar written differently"].holds
    assert by_name["key of mixed order, equation holds only with cofactor"].holds is False
    assert edwards.multiply(8, edwards.TORSION) == edwards.IDENTITY != edwards.multiply(4, edwards.TORSION)


def test_the_wrong_key_fails_and_the_right_one_passes() -> None:
    assert is_signature_valid(KEY.public_key, Tag.VOTE_SIGN, PAYLOAD, SIGNATURE)
    assert not is_signature_valid(bytes(32), Tag.VOTE_SIGN, PAYLOAD, SIGNATURE)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        SigningKey.from_seed(bytes(length))


def test_a_key_keeps_its_seed_and_does_not_show_it() -> None:
    assert KEY.seed == bytes(range(32))
    assert KEY.seed.hex() not in repr(KEY)
    assert f"{KEY}" == f"SigningKey({KEY.public_key.hex()[:16]}…)"


def test_a_library_that_verifies_with_the_cofactor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    validate_library()
    monkeypatch.setattr(ed25519, "is_signature_valid", lambda *_: True)
    with pytest.raises(ImportError, match="judges signatures otherwise"):
        validate_library()


def test_a_library_that_refuses_mixed_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ed25519, "is_signature_valid", lambda *_: False)
    with pytest.raises(ImportError, match="judges signatures otherwise"):
        validate_library()


def test_a_library_that_takes_mixed_points_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """libsodium before 1.0.20-stable (CVE-2025-69277); the VRF relies on it."""
    monkeypatch.setattr(nacl.bindings, "crypto_core_ed25519_is_valid_point", lambda _: True)
    with pytest.raises(ImportError, match="mixed order"):
        validate_library()


def test_the_library_is_tried_with_the_edges_of_the_vectors() -> None:
    pinned = {(bytes.fromhex(key), bytes.fromhex(signature), verdict) for key, signature, verdict in ed25519._EDGES}  # noqa: SLF001
    assert pinned <= {(one.key, one.signature, one.is_valid) for one in CASES}
    mixed = edwards.encode(edwards.add(edwards.BASE, edwards.multiply(4, edwards.TORSION)))
    assert bytes.fromhex(ed25519._MIXED_POINT) == mixed  # noqa: SLF001
