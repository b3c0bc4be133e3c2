"""Plain edwards25519 arithmetic, to make signatures that no honest signer makes. Slow; for vectors only."""

from __future__ import annotations

import hashlib

Point = tuple[int, int]

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P
_SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)

IDENTITY: Point = (0, 1)


def decode(data: bytes) -> Point:
    """The point of an encoding, canonical or not. Raises ValueError when there is none."""
    number = int.from_bytes(data, "little")
    y = (number & ((1 << 255) - 1)) % P
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * _SQRT_MINUS_1 % P
    if (x * x - square) % P:
        raise ValueError("not a point of the curve")
    return (P - x if x and x & 1 != number >> 255 else x), y


def encode(point: Point) -> bytes:
    """The canonical 32 bytes of a point."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def add(left: Point, right: Point) -> Point:
    """The group operation."""
    (x1, y1), (x2, y2) = left, right
    mixed = _D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + mixed, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - mixed, -1, P) % P


def multiply(scalar: int, point: Point) -> Point:
    """`point` added to itself `scalar` times."""
    total = IDENTITY
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
TORSION = decode(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"))
"""A point of order 8: its multiples are the eight points of small order."""


def compute_challenge(commitment: bytes, key: bytes, message: bytes) -> int:
    """k = SHA-512(R || A || M) mod L of RFC 8032."""
    return int.from_bytes(hashlib.sha512(commitment + key + message).digest(), "little") % ORDER


def holds_plainly(key: Point, key_bytes: bytes, commitment: bytes, scalar: int, message: bytes) -> bool:
    """Whether S*B = R + k*A, without a cofactor, comparing the encoding of R as libsodium does."""
    challenge = compute_challenge(commitment, key_bytes, message)
    negated = (P - key[0]) % P, key[1]
    return encode(add(multiply(scalar, BASE), multiply(challenge, negated))) == commitment
