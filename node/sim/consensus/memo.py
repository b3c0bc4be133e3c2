"""Memoises the pure checks that all nodes of a simulation repeat: whether a signature or a beacon's proof is valid.

Each answer is computed once in a process. Live nodes do not use this file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from consensus import beacon
from node.chain import blocks
from proto_specs import ed25519
from proto_specs.hashing import Tag, hash_tagged

REMEMBERED_MAX = 1 << 14

_made: set[tuple[bytes, bytes, bytes]] = set()
"""(Key, digest, signature) of each signature made in this simulation: valid by the scheme, so it needs no check."""

_whole_sign = ed25519.SigningKey.sign
_check = functools.lru_cache(REMEMBERED_MAX)(ed25519.is_digest_signed)
_verify_beacon = functools.lru_cache(REMEMBERED_MAX)(beacon.verify_beacon)


def is_digest_signed(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """As `ed25519.is_digest_signed`."""
    return (public_key, digest, signature) in _made or _check(public_key, digest, signature)


def _sign(self: ed25519.SigningKey, tag: Tag, payload: bytes) -> bytes:
    signature = _whole_sign(self, tag, payload)
    _made.add((self.public_key, hash_tagged(tag, payload), signature))
    return signature


@contextmanager
def remember() -> Iterator[None]:
    """Remember answers inside the block."""
    _made.clear()
    with (
        _replace(ed25519, "is_digest_signed", is_digest_signed),
        _replace(ed25519.SigningKey, "sign", _sign),
        _replace(blocks, "verify_beacon", _verify_beacon),
    ):
        yield


@contextmanager
def _replace(owner: Any, name: str, function: Any) -> Iterator[None]:
    whole = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, whole)
