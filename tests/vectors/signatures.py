"""Signatures at the edges of Ed25519, made by hand: what a verifier says of them decides which chain it follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proto_specs.hashing import Tag, hash_tagged
from tests.vectors import edwards

PAYLOAD = b"edge"
TAG = Tag.EXTRINSIC_SIGN
SECRET, NONCE = 0x1357_9BDF_0246_8ACE, 0x0123_4567_89AB_CDEF


@dataclass(frozen=True)
class Case:
    """A key and a signature over `hash_tagged(TAG, PAYLOAD)`.

    `is_valid` is libsodium's verdict; `holds` says whether S*B = R + k*A does, without cofactor.
    """

    name: str
    key: bytes
    signature: bytes
    is_valid: bool
    holds: bool | None = None


def build_cases() -> list[Case]:
    """Every edge, the honest signature first."""
    message = hash_tagged(TAG, PAYLOAD)
    return [*_scalars(message), *_small_keys(message), *_small_commitments(message), *_mixed(message)]


def _case(name: str, key: bytes, commitment: bytes, scalar: int, is_valid: bool) -> Case:
    message = hash_tagged(TAG, PAYLOAD)
    holds = edwards.holds_plainly(edwards.decode(key), key, commitment, scalar, message)
    return Case(name, key, commitment + scalar.to_bytes(32, "little"), is_valid, holds)


def _honest(message: bytes) -> tuple[bytes, bytes, int]:
    key = edwards.encode(edwards.multiply(SECRET, edwards.BASE))
    commitment = edwards.encode(edwards.multiply(NONCE, edwards.BASE))
    challenge = edwards.compute_challenge(commitment, key, message)
    return key, commitment, (NONCE + challenge * SECRET) % edwards.ORDER


def _scalars(message: bytes) -> Iterator[Case]:
    key, commitment, scalar = _honest(message)
    yield _case("honest", key, commitment, scalar, True)
    yield _case("S + L: the same scalar written differently", key, commitment, scalar + edwards.ORDER, False)
    yield _case("S + 2^255: the top bit set", key, commitment, scalar + (1 << 255), False)
    yield _case("S = L - S", key, commitment, edwards.ORDER - scalar, False)
    signature = commitment + scalar.to_bytes(32, "little")
    yield Case("signature of 63 bytes", key, signature[:-1], False)
    yield Case("signature of 65 bytes", key, signature + b"\x00", False)
    yield Case("no signature", key, b"", False)
    yield Case("key of 31 bytes", key[:-1], signature, False)
    yield Case("key of 33 bytes", key + b"\x00", signature, False)
    yield Case("all zero signature", key, bytes(64), False)
    off_curve = (2).to_bytes(32, "little")
    yield Case("key that is no point (y = 2)", off_curve, signature, False)
    yield Case("R that is no point (y = 2)", key, off_curve + signature[32:], False)


def _small_points() -> Iterator[tuple[str, bytes]]:
    for number in range(8):
        yield f"{number} x torsion", edwards.encode(edwards.multiply(number, edwards.TORSION))
    yield "identity as y = p + 1", (edwards.P + 1).to_bytes(32, "little")
    yield "order 4 as y = p", edwards.P.to_bytes(32, "little")
    yield "order 4 as y = p with sign", (edwards.P | 1 << 255).to_bytes(32, "little")
    yield "identity with the sign of x = 0", (1 | 1 << 255).to_bytes(32, "little")
    yield "order 2 with the sign of x = 0", ((edwards.P - 1) | 1 << 255).to_bytes(32, "little")


def _small_keys(message: bytes) -> Iterator[Case]:
    """With a key of small order anybody can make the equation hold: S = r and R = r*B - k*A, which is r*B at times."""
    for name, key in _small_points():
        point = edwards.decode(key)
        for nonce in range(1, 200):
            commitment = edwards.encode(edwards.multiply(nonce, edwards.BASE))
            if edwards.holds_plainly(point, key, commitment, nonce, message):
                yield _case(f"key of small order: {name}", key, commitment, nonce, False)
                break


def _small_commitments(message: bytes) -> Iterator[Case]:
    """R of small order: with R = identity, S = k*a fulfils the equation."""
    key, _, _ = _honest(message)
    for name, commitment in _small_points():
        challenge = edwards.compute_challenge(commitment, key, message)
        yield _case(f"R of small order: {name}", key, commitment, challenge * SECRET % edwards.ORDER, False)


def _mixed(message: bytes) -> Iterator[Case]:
    """Points of the main group plus a small one: where verifiers with and without cofactor disagree."""
    mixed = edwards.encode(edwards.add(edwards.multiply(SECRET, edwards.BASE), edwards.TORSION))
    seen: set[bool] = set()
    for nonce in range(NONCE, NONCE + 200):
        commitment = edwards.encode(edwards.multiply(nonce, edwards.BASE))
        challenge = edwards.compute_challenge(commitment, mixed, message)
        scalar, holds = (nonce + challenge * SECRET) % edwards.ORDER, challenge % 8 == 0
        if holds not in seen:
            seen.add(holds)
            name = "equation holds" if holds else "equation holds only with cofactor"
            yield _case(f"key of mixed order, {name}", mixed, commitment, scalar, holds)
    key, _, _ = _honest(message)
    commitment = edwards.encode(edwards.add(edwards.multiply(NONCE, edwards.BASE), edwards.TORSION))
    challenge = edwards.compute_challenge(commitment, key, message)
    scalar = (NONCE + challenge * SECRET) % edwards.ORDER
    yield _case("R of mixed order, equation holds only with cofactor", key, commitment, scalar, False)
    for nonce in range(NONCE, NONCE + 200):
        for torsion in range(1, 8):
            small = edwards.multiply(torsion, edwards.TORSION)
            commitment = edwards.encode(edwards.add(edwards.multiply(nonce, edwards.BASE), small))
            challenge = edwards.compute_challenge(commitment, mixed, message)
            if (torsion + challenge) % 8 == 0:
                scalar = (nonce + challenge * SECRET) % edwards.ORDER
                yield _case("key and R of mixed order, equation holds", mixed, commitment, scalar, True)
                return
