"""A page of the state tree: 16 slots as bytes, and the four binary levels above them. Knows no keys and no paths.

Two layouts. Sparse: masks of the taken and of the leaf slots (16 bits each, big-endian), the hashes of the taken
slots, then key hash and value hash of each leaf. Dense, when every slot is a branch: the masks 0xffff and 0, then all
30 nodes below the page's top in heap order (nodes 2, 3 | 4..7 | 8..15 | slots 16..31), so that changing one slot costs
four hashes. Only pages near the root are dense, and those are in the way of every key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from proto_specs.hashing import HASH_BYTES, Tag

SLOTS = 16
EMPTY_ROOT = bytes(HASH_BYTES)

Slot = tuple[bytes, bytes | None, bytes | None] | None
"""(hash, key hash, value hash) of a leaf; (hash, None, None) of a branch; None when empty."""

_NODE_PREFIX = bytes([len(Tag.STATE_NODE.value)]) + Tag.STATE_NODE.value
_LEAF_PREFIX = bytes([len(Tag.STATE_LEAF.value)]) + Tag.STATE_LEAF.value
_DENSE = b"\xff\xff\0\0"
_MASKS_BYTES = 4


def hash_node(left: bytes, right: bytes) -> bytes:
    """H(STATE_NODE, left || right); as `hash_tagged`, without its call."""
    return blake2b(_NODE_PREFIX + left + right, digest_size=HASH_BYTES).digest()


def hash_leaf(key_hash: bytes, value_hash: bytes) -> bytes:
    """H(STATE_LEAF, key hash || value hash)."""
    return blake2b(_LEAF_PREFIX + key_hash + value_hash, digest_size=HASH_BYTES).digest()


def fold(slots: Sequence[Slot]) -> Slot:
    """The node that stands for 16 slots."""
    return fold_levels(slots)[-1][0]


def fold_levels(slots: Sequence[Slot]) -> list[Sequence[Slot]]:
    """All levels of a page, from the 16 slots to its one top."""
    levels = [slots]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([_join(below[index], below[index + 1]) for index in range(0, len(below), 2)])
    return levels


def encode_page(slots: Sequence[Slot]) -> tuple[bytes, Slot]:
    """The page's bytes, and the node that stands for it."""
    taken = leaf = 0
    hashes, leaves = [], []
    for index, slot in enumerate(slots):
        if slot is None:
            continue
        taken |= 1 << index
        node, key_hash, value_hash = slot
        hashes.append(node)
        if key_hash is not None and value_hash is not None:
            leaf |= 1 << index
            leaves.append(key_hash)
            leaves.append(value_hash)
    if len(hashes) == SLOTS and not leaf:
        nodes = [slot[0] for level in reversed(fold_levels(slots)) for slot in level if slot is not None]
        return b"".join((_DENSE, *nodes[1:])), (nodes[0], None, None)
    masks = (taken << SLOTS | leaf).to_bytes(_MASKS_BYTES, "big")
    return b"".join((masks, *hashes, *leaves)), fold(slots)


def decode_page(page: bytes) -> list[Slot]:
    """The 16 slots."""
    if is_dense(page):
        start = len(page) - SLOTS * HASH_BYTES
        return [(page[at : at + HASH_BYTES], None, None) for at in range(start, len(page), HASH_BYTES)]
    masks = int.from_bytes(page[:_MASKS_BYTES], "big")
    taken, leaf = masks >> SLOTS, masks
    at = _MASKS_BYTES
    leaf_at = at + HASH_BYTES * taken.bit_count()
    slots: list[Slot] = [None] * SLOTS
    for index in range(SLOTS):
        if not taken >> index & 1:
            continue
        node = page[at : at + HASH_BYTES]
        at += HASH_BYTES
        if leaf >> index & 1:
            middle = leaf_at + HASH_BYTES
            slots[index] = node, page[leaf_at:middle], page[middle : middle + HASH_BYTES]
            leaf_at = middle + HASH_BYTES
        else:
            slots[index] = node, None, None
    return slots


def is_dense(page: bytes) -> bool:
    """Whether every slot is a branch."""
    return page.startswith(_DENSE)


def replace_branches(page: bytes, changed: Mapping[int, bytes]) -> tuple[bytes, bytes]:
    """A dense page with other hashes in some slots: its bytes, and the hash of the node that stands for it."""
    nodes = bytearray(2 * HASH_BYTES) + page[_MASKS_BYTES:]
    dirty = set()
    for index, node in changed.items():
        at = (SLOTS + index) * HASH_BYTES
        nodes[at : at + HASH_BYTES] = node
        dirty.add(SLOTS + index >> 1)
    while True:
        for parent in dirty:
            at = 2 * parent * HASH_BYTES
            pair = bytes(nodes[at : at + 2 * HASH_BYTES])
            at = parent * HASH_BYTES
            nodes[at : at + HASH_BYTES] = blake2b(_NODE_PREFIX + pair, digest_size=HASH_BYTES).digest()
        if 1 in dirty:
            return _DENSE + bytes(nodes[2 * HASH_BYTES :]), bytes(nodes[HASH_BYTES : 2 * HASH_BYTES])
        dirty = {parent >> 1 for parent in dirty}


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
