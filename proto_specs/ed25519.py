"""Ed25519 signatures. libsodium (PyNaCl) alone decides validity: it rejects small-order keys and non-canonical S."""

from __future__ import annotations

from dataclasses import dataclass

import nacl.bindings
import nacl.exceptions

from proto_specs.errors import SignatureError
from proto_specs.hashing import Tag, hash_tagged

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


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
        """The 32-byte seed, for keystores alone."""
        return self._secret[:SEED_BYTES]

    def sign(self, tag: Tag, payload: bytes) -> bytes:
        """64-byte signature over `hash_tagged(tag, payload)`."""
        signed: bytes = nacl.bindings.crypto_sign(hash_tagged(tag, payload), self._secret)
        return signed[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey({self.public_key.hex()[:16]}…)"


def is_signature_valid(public_key: bytes, tag: Tag, payload: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public_key`'s over `hash_tagged(tag, payload)`."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + hash_tagged(tag, payload), public_key)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.CryptoError):
        return False
    return True


def validate_signature(public_key: bytes, tag: Tag, payload: bytes, signature: bytes) -> None:
    """Raises SignatureError unless the signature verifies."""
    if not is_signature_valid(public_key, tag, payload, signature):
        raise SignatureError(f"bad {tag.name} signature under key {public_key.hex()[:16]}…")
