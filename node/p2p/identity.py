"""The libp2p node key: an Ed25519 seed in, the key pair and the peer id's text out."""

from __future__ import annotations

from typing import Final

from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID

from node.p2p.errors import AddressInvalid

SEED_BYTES: Final = 32
ED25519_ID_PREFIX: Final = bytes.fromhex("002408011220")  # identity multihash of the key's protobuf, 32 bytes follow


def compute_key_pair(seed: bytes) -> KeyPair:
    """Return the node key pair of a 32-byte Ed25519 seed. Raises ValueError for any other length."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a node key seed has {SEED_BYTES} bytes, got {len(seed)}")
    return create_new_key_pair(seed)


def compute_peer_id(seed: bytes) -> str:
    """Return the peer id (base58 text, `12D3Koo...`) of the node key with this 32-byte seed."""
    return ID.from_pubkey(compute_key_pair(seed).public_key).to_base58()


def decode_peer_id(text: str) -> ID:
    """Parse a peer id's base58 text; only Ed25519 keys are peers here. Raises AddressInvalid."""
    try:
        peer_id = ID.from_base58(text)
    except ValueError as error:
        raise AddressInvalid(f"not a peer id: {text!r}") from error
    raw = peer_id.to_bytes()
    if not raw.startswith(ED25519_ID_PREFIX) or len(raw) != len(ED25519_ID_PREFIX) + SEED_BYTES:
        raise AddressInvalid(f"not the peer id of an Ed25519 key: {text!r}")
    return peer_id
