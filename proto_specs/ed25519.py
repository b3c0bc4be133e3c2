"""Ed25519 signatures. libsodium (PyNaCl) alone decides validity: it rejects small-order keys and non-canonical S.

Its versions disagree: the development branch verifies with the cofactor, the releases without it, and before
1.0.20-stable (PyNaCl 1.6.2) a point of mixed order passed for a point of the main group. A node with another version
would sooner or later follow another chain, so `validate_library` refuses to start with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import nacl
import nacl.bindings
import nacl.exceptions

from proto_specs.hashing import Tag, hash_tagged

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

# Cases of vectors/ed25519.json on which libraries disagree: (key, signature, whether it is valid), made by hand over
# the payload "edge" under EXTRINSIC_SIGN. The last constant is a point of mixed order: the base point plus (0, -1).
_MIXED_KEY = "93b85433e9465df4acc9882ef89c1af4649a3fd93f989d9df84176228a07efd9"
_HONEST_KEY = "1482a7fcc4263e571f6fb6247c5dcec4132a1ef5af245ecb8a77a92d21c3f67c"
_HONEST_R = "4007da55933fc4e347bc451b387cfef6b0dfec7b14da5aab1738f47c52f77b70"
_EDGES = (
    (_MIXED_KEY, _HONEST_R + "c919899831b4fa7e6d3f6733bc646d94c070a5a66c0dfcdbbc12fb1f37f3e80b", False),
    (
        _MIXED_KEY,
        "be7f08d1005b313c21559780e79fee57e4483209cef01c37055e73e1e45c4d3a"
        "a13a1dd7c5452e0897839bf328a452cce0460edc1dd5e7c4511cab68b985660c",
        True,
    ),
    (_HONEST_KEY, _HONEST_R + "ee2b0556067a649119ec01765b0857235475060013c739a35570ea1c286be40b", True),
    (_HONEST_KEY, _HONEST_R + "dbfffab220dd76e9ef88f9183a0236385475060013c739a35570ea1c286be41b", False),
)
_MIXED_POINT = "95" + "99" * 31


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A private key; its text form never shows the secret."""

    public_key: bytes
    _secret: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key pair of a 32-byte RFC 8032 seed. Raises ValueError for another length."""
        public_key, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        return cls(public_key, secret)

    @property
    def seed(self) -> bytes:
        """The 32-byte seed, for keystores only."""
        return self._secret[:SEED_BYTES]

    def sign(self, tag: Tag, payload: bytes) -> bytes:
        """64-byte signature over `hash_tagged(tag, payload)`."""
        signed: bytes = nacl.bindings.crypto_sign(hash_tagged(tag, payload), self._secret)
        return signed[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey({self.public_key.hex()[:16]}…)"


def is_signature_valid(public_key: bytes, tag: Tag, payload: bytes, signature: bytes) -> bool:
    """Whether `signature` is a signature by `public_key` over `hash_tagged(tag, payload)`."""
    return is_digest_signed(public_key, hash_tagged(tag, payload), signature)


def is_digest_signed(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """As `is_signature_valid`, given the payload's tagged hash."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + digest, public_key)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.CryptoError):
        return False
    return True


def validate_library() -> None:
    """Raises ImportError unless this libsodium decides as the rest of the network does. Takes 0.4 ms."""
    for key, signature, is_valid in _EDGES:
        if is_signature_valid(bytes.fromhex(key), Tag.EXTRINSIC_SIGN, b"edge", bytes.fromhex(signature)) != is_valid:
            raise ImportError(f"libsodium of PyNaCl {nacl.__version__} judges signatures otherwise; use PyNaCl 1.6.2")
    if nacl.bindings.crypto_core_ed25519_is_valid_point(bytes.fromhex(_MIXED_POINT)):
        raise ImportError(f"libsodium of PyNaCl {nacl.__version__} takes points of mixed order; use PyNaCl 1.6.2")


validate_library()
