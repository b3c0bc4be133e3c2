"""A page of the state tree: what is hashed, stored and proven are the same bytes. Knows no paths and no database.

A subtree of at most LEAVES_MAX leaves is one page of leaves: their number (one byte), then key hash and value hash of
each, in order of the key hashes. Any other subtree is a branch: a zero byte, one byte a slot saying what stands there
(0: nothing; 1..LEAVES_MAX: a page of so many leaves; BRANCH: a branch), then the hashes of the slots that hold
something, in order. The numbers of leaves tell a branch when it has become small enough to be one page again.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from proto_specs.hashing import HASH_BYTES, Tag

SLOTS = 16
LEAVES_MAX = 32
BRANCH = 255
EMPTY_ROOT = bytes(HASH_BYTES)
LEAF_BYTES = 2 * HASH_BYTES
HASHES_AT = 1 + SLOTS
PAGE_BYTES_MAX = 1 + LEAVES_MAX * LEAF_BYTES

Leaf = tuple[bytes, bytes]
"""(key hash, value hash)."""
Child = tuple[int, bytes]
"""(what stands in a slot, its hash): (0, EMPTY_ROOT), (number of leaves, hash) or (BRANCH, hash)."""
NOTHING: Child = (0, EMPTY_ROOT)

_KEY_PREFIX = Tag.STATE_KEY.prefix
_VALUE_PREFIX = Tag.STATE_VALUE.prefix
_PAGE_PREFIX = Tag.STATE_PAGE.prefix


def hash_key(key: bytes) -> bytes:
    """H(STATE_KEY, key)."""
    return blake2b(_KEY_PREFIX + key, digest_size=HASH_BYTES).digest()


def hash_value(value: bytes) -> bytes:
    """H(STATE_VALUE, value)."""
    return blake2b(_VALUE_PREFIX + value, digest_size=HASH_BYTES).digest()


def hash_page(page: bytes) -> bytes:
    """H(STATE_PAGE, page)."""
    return blake2b(_PAGE_PREFIX + page, digest_size=HASH_BYTES).digest()


def is_well_formed(page: bytes) -> bool:
    """Whether a page has the length that its first bytes announce. The functions below require this."""
    if not page or page[0] > LEAVES_MAX:
        return False
    if page[0]:
        return len(page) == 1 + page[0] * LEAF_BYTES
    kinds = page[1:HASHES_AT]
    return len(page) == HASHES_AT + HASH_BYTES * (SLOTS - kinds.count(0)) and len(kinds) == SLOTS


def encode_leaves(leaves: Sequence[Leaf]) -> bytes:
    """Encodes leaves, sorted by key hash, as a page of leaves."""
    assert 1 <= len(leaves) <= LEAVES_MAX, "so many fit"
    return bytes((len(leaves),)) + b"".join([key_hash + value_hash for key_hash, value_hash in leaves])


def encode_branch(children: Sequence[Child]) -> bytes:
    """Encodes the sixteen slots of a branch."""
    kinds = bytes([kind for kind, _ in children])
    return b"".join((b"\0", kinds, *(digest for kind, digest in children if kind)))


def list_leaves(page: bytes) -> list[Leaf]:
    """The leaves of a page of leaves."""
    assert page[0], "a branch has no leaves of its own"
    return [
        (page[at : at + HASH_BYTES], page[at + HASH_BYTES : at + LEAF_BYTES]) for at in range(1, len(page), LEAF_BYTES)
    ]


def list_children(page: bytes) -> list[Child]:
    """The sixteen slots of a branch."""
    children, at = [], HASHES_AT
    for kind in page[1:HASHES_AT]:
        children.append((kind, page[at : at + HASH_BYTES]) if kind else NOTHING)
        at += HASH_BYTES if kind else 0
    return children


def find_value(page: bytes, key_hash: bytes) -> int:
    """The offset of a key's value hash in a page of leaves, or -1 when the page has no such leaf."""
    at = page.find(key_hash, 1)
    while at >= 0 and at % LEAF_BYTES != 1:  # found astride, or among the value hashes
        at = page.find(key_hash, at + 1)
    return at + HASH_BYTES if at >= 0 else -1


def find_child(page: bytes, slot: int) -> int:
    """The offset of a slot's hash in a branch; the slot must not be empty."""
    return HASHES_AT + HASH_BYTES * (slot - page.count(0, 1, 1 + slot))


def get_digit(key_hash: bytes, depth: int) -> int:
    """The hex digit of a key at `depth`: its slot in the branch at that depth below the root."""
    pair = key_hash[depth >> 1]
    return pair & 15 if depth & 1 else pair >> 4
