"""ECVRF-EDWARDS25519-SHA512-TAI, suite 0x03 of RFC 9381, over libsodium's group operations. Knows no beacon or block.

Section numbers are the RFC's. Verification is stricter than section 5.3 with validate_key = TRUE in one point, so that
libsodium can do all of it: the key and Gamma must lie in the group of prime order. No honest proof is affected.
"""

from __future__ import annotations

import hashlib

import nacl.exceptions
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)

from proto_specs.errors import ProtocolError

PROOF_BYTES = 80
"""Gamma (point, 32) || c (16) || s (32)."""

_SEED_BYTES = 32
_POINT_BYTES = 32
_CHALLENGE_BYTES = 16
_SCALAR_BYTES = 32
_SUITE = b"\x03"
_TO_CURVE_FRONT = b"\x01"
_CHALLENGE_FRONT = b"\x02"
_TO_OUTPUT_FRONT = b"\x03"
_BACK = b"\x00"
_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
_IDENTITY = b"\x01" + bytes(31)


class VrfError(ProtocolError):
    """A proof, or a public key, is malformed, or the proof does not verify."""


def prove(secret_seed: bytes, alpha: bytes) -> bytes:
    """80-byte proof over `alpha` by the Ed25519 key of a 32-byte seed (section 5.1). Deterministic."""
    if len(secret_seed) != _SEED_BYTES:
        raise ValueError(f"a seed has {_SEED_BYTES} bytes, got {len(secret_seed)}")
    expanded = hashlib.sha512(secret_seed).digest()
    clamped = bytes([expanded[0] & 0xF8]) + expanded[1:31] + bytes([expanded[31] & 0x7F | 0x40])
    x = _reduce(clamped)
    public_key = crypto_scalarmult_ed25519_base_noclamp(x)
    h = _encode_to_curve(public_key, alpha)
    gamma = crypto_scalarmult_ed25519_noclamp(x, h)
    k = _reduce(hashlib.sha512(expanded[32:] + h).digest())  # section 5.4.2.2
    k_b = crypto_scalarmult_ed25519_base_noclamp(k)
    k_h = crypto_scalarmult_ed25519_noclamp(k, h)
    c = _compute_challenge(public_key, h, gamma, k_b, k_h)
    s = crypto_core_ed25519_scalar_add(k, crypto_core_ed25519_scalar_mul(_widen(c), x))
    return gamma + c + s


def verify(public_key: bytes, alpha: bytes, proof: bytes) -> bytes:
    """The 64-byte output that `proof` proves to be the one output of (`public_key`, `alpha`) (section 5.3).

    Raises VrfError for a malformed or small-order key, a malformed proof, or one that does not verify.
    """
    if not _is_group_point(public_key):
        raise VrfError("the public key is not a point of the prime-order group")
    gamma, c, s = _decode_proof(proof)
    h = _encode_to_curve(public_key, alpha)
    wide_c = _widen(c)
    c_y = crypto_scalarmult_ed25519_noclamp(wide_c, public_key)
    c_gamma = crypto_scalarmult_ed25519_noclamp(wide_c, gamma)
    u = crypto_core_ed25519_sub(crypto_scalarmult_ed25519_base_noclamp(s), c_y)
    v = crypto_core_ed25519_sub(crypto_scalarmult_ed25519_noclamp(s, h), c_gamma)
    if _compute_challenge(public_key, h, gamma, u, v) != c:
        raise VrfError(f"the proof does not verify under key {public_key.hex()[:16]}…")
    return _compute_output(gamma)


def proof_to_output(proof: bytes) -> bytes:
    """The 64-byte output of a proof already verified (section 5.2). Raises VrfError if it is malformed."""
    gamma, _, _ = _decode_proof(proof)
    return _compute_output(gamma)


def _decode_proof(proof: bytes) -> tuple[bytes, bytes, bytes]:
    """Returns Gamma, c and s (section 5.4.4). Refuses c = 0 and s = 0, which a proof has with probability 2^-128."""
    if len(proof) != PROOF_BYTES:
        raise VrfError(f"a proof has {PROOF_BYTES} bytes, got {len(proof)}")
    gamma = proof[:_POINT_BYTES]
    c = proof[_POINT_BYTES : _POINT_BYTES + _CHALLENGE_BYTES]
    s = proof[_POINT_BYTES + _CHALLENGE_BYTES :]
    if not _is_group_point(gamma):
        raise VrfError("Gamma is not a point of the prime-order group")
    if not any(c) or not 0 < int.from_bytes(s, "little") < _GROUP_ORDER:
        raise VrfError("a scalar of the proof is out of range")
    return gamma, c, s


def _encode_to_curve(salt: bytes, alpha: bytes) -> bytes:
    """Try and increment (section 5.4.1.1). A try fails with probability 1/2, so the counter never runs out.

    libsodium decodes some encodings that RFC 8032 does not (y >= p); a hash is one with probability 2^-250.
    """
    for counter in range(256):
        front = _SUITE + _TO_CURVE_FRONT + salt + alpha + bytes([counter])
        candidate = hashlib.sha512(front + _BACK).digest()[:_POINT_BYTES]
        try:
            h = _clear_cofactor(candidate)
        except nacl.exceptions.RuntimeError:
            continue  # not on the curve
        if h != _IDENTITY:
            return h
    raise AssertionError("256 tries found no point: probability 2^-256")


def _compute_challenge(*points: bytes) -> bytes:
    """Section 5.4.3, 16 bytes little-endian."""
    return hashlib.sha512(_SUITE + _CHALLENGE_FRONT + b"".join(points) + _BACK).digest()[:_CHALLENGE_BYTES]


def _compute_output(gamma: bytes) -> bytes:
    return hashlib.sha512(_SUITE + _TO_OUTPUT_FRONT + _clear_cofactor(gamma) + _BACK).digest()


def _clear_cofactor(point: bytes) -> bytes:
    """8 x point, by doubling: libsodium's scalar multiplication refuses points outside the prime-order group."""
    for _ in range(3):
        point = crypto_core_ed25519_add(point, point)
    return point


def _is_group_point(data: bytes) -> bool:
    """Canonical encoding of a point of the prime-order group, not of small order."""
    return len(data) == _POINT_BYTES and crypto_core_ed25519_is_valid_point(data)


def _reduce(scalar: bytes) -> bytes:
    """A little-endian number of up to 64 bytes modulo the group's order."""
    reduced: bytes = crypto_core_ed25519_scalar_reduce(scalar.ljust(64, b"\x00"))
    return reduced


def _widen(challenge: bytes) -> bytes:
    return challenge.ljust(_SCALAR_BYTES, b"\x00")
