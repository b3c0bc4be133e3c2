"""A page of the state tree: 16 slots and the binary nodes above them, as bytes. Knows no paths and no database.

Nodes are numbered as in a heap: 1 is the page's top, the children of i are 2 i and 2 i + 1, the slots are 16..31. A
page holds the nodes of the compact tree: a lone leaf stands where its sibling is empty no more, and nothing below it.
Layout: a mask of the present nodes and a mask of the leaves among them (32 bits each, bit i for node i, big-endian),
the hashes of the present nodes in order, then key hash and value hash of each leaf in order. Keeping inner nodes makes
a new value cost four hashes and no rebuilding of its page.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from proto_specs.hashing import HASH_BYTES, Tag

SLOTS = 16
EMPTY_ROOT = bytes(HASH_BYTES)

Slot = tuple[bytes, bytes | None, bytes | None] | None
"""(hash, key hash, value hash) of a leaf; (hash, None, None) of a branch or inner node; None when empty."""


_KEY_PREFIX = Tag.STATE_KEY.prefix
_VALUE_PREFIX = Tag.STATE_VALUE.prefix
_LEAF_PREFIX = Tag.STATE_LEAF.prefix
_NODE_PREFIX = Tag.STATE_NODE.prefix
_MASK_BYTES = 4
_HASHES_AT = 2 * _MASK_BYTES


def hash_key(key: bytes) -> bytes:
    """H(STATE_KEY, key)."""
    return blake2b(_KEY_PREFIX + key, digest_size=HASH_BYTES).digest()


def hash_value(value: bytes) -> bytes:
    """H(STATE_VALUE, value)."""
    return blake2b(_VALUE_PREFIX + value, digest_size=HASH_BYTES).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """H(STATE_NODE, left || right)."""
    return blake2b(_NODE_PREFIX + left + right, digest_size=HASH_BYTES).digest()


def hash_leaf(key_hash: bytes, value_hash: bytes) -> bytes:
    """H(STATE_LEAF, key hash || value hash)."""
    return blake2b(_LEAF_PREFIX + key_hash + value_hash, digest_size=HASH_BYTES).digest()


class Page:
    """One page, read in place. `patch_*` change values without changing the shape; `close` gives bytes and top hash."""

    __slots__ = ("_bytes", "_dirty", "_leaf", "_leaves_at", "_present")

    def __init__(self, page: bytes) -> None:
        self._bytes = bytearray(page)
        self._present = int.from_bytes(page[:_MASK_BYTES], "big")
        self._leaf = int.from_bytes(page[_MASK_BYTES:_HASHES_AT], "big")
        self._leaves_at = _HASHES_AT + HASH_BYTES * self._present.bit_count()
        self._dirty = 0

    def find(self, slot: int) -> int:
        """The present node on the way to a slot that is nearest to it: the slot's own, or one above."""
        node = SLOTS + slot
        while not self._present >> node & 1:
            node >>= 1
        return node

    def has(self, node: int) -> bool:
        """Whether a node is present."""
        return bool(self._present >> node & 1)

    def get_leaf(self, node: int) -> tuple[bytes, bytes] | None:
        """(key hash, value hash) of a present node; None when it is no leaf."""
        if not self._leaf >> node & 1:
            return None
        at = self._leaf_at(node)
        middle = at + HASH_BYTES
        return bytes(self._bytes[at:middle]), bytes(self._bytes[middle : middle + HASH_BYTES])

    def get_hash(self, node: int) -> bytes:
        """A node's hash; that of the empty subtree when it is absent."""
        if not self._present >> node & 1:
            return EMPTY_ROOT
        at = self._hash_at(node)
        return bytes(self._bytes[at : at + HASH_BYTES])

    def patch_branch(self, node: int, digest: bytes) -> None:
        """Another hash for a branch."""
        at = self._hash_at(node)
        self._bytes[at : at + HASH_BYTES] = digest
        self._dirty |= 1 << (node >> 1)

    def patch_leaf(self, node: int, key_hash: bytes, value_hash: bytes) -> None:
        """Another value for a leaf."""
        at = self._leaf_at(node) + HASH_BYTES
        self._bytes[at : at + HASH_BYTES] = value_hash
        self.patch_branch(node, hash_leaf(key_hash, value_hash))

    def close(self) -> tuple[bytes, bytes]:
        """Hash what lies above the patches; the page's bytes, and the hash of its top."""
        data, present, dirty = self._bytes, self._present, self._dirty
        for parent in range(SLOTS - 1, 0, -1):
            if not dirty >> parent & 1:
                continue
            left = 2 * parent
            at = _HASHES_AT + HASH_BYTES * (present & ((1 << left) - 1)).bit_count()
            if present >> left & 3 == 3:
                pair = bytes(data[at : at + 2 * HASH_BYTES])
            elif present >> left & 1:
                pair = bytes(data[at : at + HASH_BYTES]) + EMPTY_ROOT
            else:
                pair = EMPTY_ROOT + data[at : at + HASH_BYTES]
            at = _HASHES_AT + HASH_BYTES * (present & ((1 << parent) - 1)).bit_count()
            data[at : at + HASH_BYTES] = blake2b(_NODE_PREFIX + pair, digest_size=HASH_BYTES).digest()
            dirty |= 1 << (parent >> 1)
        return bytes(data), bytes(data[_HASHES_AT : _HASHES_AT + HASH_BYTES])

    def to_slots(self, depth: int) -> list[Slot]:
        """The 16 slots; `depth` is the page's, in hex digits, by which a leaf knows its slot."""
        slots: list[Slot] = [None] * SLOTS
        for node in range(1, 2 * SLOTS):
            if not self._present >> node & 1:
                continue
            leaf = self.get_leaf(node)
            if leaf is not None:
                key_hash, value_hash = leaf
                slots[_get_digit(key_hash, depth)] = self.get_hash(node), key_hash, value_hash
            elif node >= SLOTS:
                slots[node - SLOTS] = self.get_hash(node), None, None
        return slots

    def _hash_at(self, node: int) -> int:
        return _HASHES_AT + HASH_BYTES * (self._present & ((1 << node) - 1)).bit_count()

    def _leaf_at(self, node: int) -> int:
        return self._leaves_at + 2 * HASH_BYTES * (self._leaf & ((1 << node) - 1)).bit_count()


def encode_page(slots: Sequence[Slot]) -> tuple[bytes, Slot]:
    """The bytes of a page with these slots, and the node that stands for it."""
    nodes: list[Slot] = [None] * SLOTS
    nodes += slots
    for parent in range(SLOTS - 1, 0, -1):
        nodes[parent] = _join(nodes[2 * parent], nodes[2 * parent + 1])
    present = leaf = 0
    hashes: list[bytes] = []
    leaves: list[bytes] = []
    for index in range(1, 2 * SLOTS):
        node = nodes[index]
        above = nodes[index >> 1] if index > 1 else None
        if node is None or (above is not None and above[1] is not None):
            continue
        digest, key_hash, value_hash = node
        present |= 1 << index
        hashes.append(digest)
        if key_hash is not None and value_hash is not None:
            leaf |= 1 << index
            leaves += (key_hash, value_hash)
    masks = present.to_bytes(_MASK_BYTES, "big") + leaf.to_bytes(_MASK_BYTES, "big")
    return b"".join((masks, *hashes, *leaves)), nodes[1]


def _join(left: Slot, right: Slot) -> Slot:
    """The node above two: a lone leaf moves up, a lone branch does not."""
    if left is None:
        if right is None or right[1] is not None:
            return right
        return hash_node(EMPTY_ROOT, right[0]), None, None
    if right is None:
        if left[1] is not None:
            return left
        return hash_node(left[0], EMPTY_ROOT), None, None
    return blake2b(_NODE_PREFIX + left[0] + right[0], digest_size=HASH_BYTES).digest(), None, None


def _get_digit(key_hash: bytes, depth: int) -> int:
    pair = key_hash[depth >> 1]
    return pair & 15 if depth & 1 else pair >> 4
