"""The commitment to the state: a compact sparse binary Merkle tree over hashed keys. Knows no database and no types.

Shape (normative, state_tree.md). A key's place is the 256 bits of H(STATE_KEY, key), most significant first. An empty
subtree hashes to zero; a subtree of ONE leaf is that leaf, H(STATE_LEAF, key hash || H(STATE_VALUE, value)), however
high it stands; any other subtree is H(STATE_NODE, left || right). So the root does not depend on the order of writes.

Storage (not normative). Four binary levels are kept as one page of 16 slots, addressed by the hex digits that lead to
it; a slot is empty, a leaf, or a branch whose page lies one digit further. Only the latest tree is kept, in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated

from proto_specs.codec import Max, record
from proto_specs.hashing import HASH_BYTES, Tag, hash_tagged
from proto_specs.types.common import Hash32

EMPTY_ROOT = bytes(HASH_BYTES)
DEPTH_MAX = 256

NodeReader = Callable[[bytes], bytes | None]
"""path -> page bytes; None where there is no page."""

_SLOTS = 16
_Slot = tuple[bytes, bytes | None, bytes | None] | None
"""(hash, key hash, value hash) of a leaf; (hash, None, None) of a branch; None when empty."""
_Leaf = tuple[str, bytes, bytes]
"""(key hash in hex, key hash, value hash)."""
_Dirty = tuple[str, bytes, bytes | None]
"""As `_Leaf`; the value hash is None where the key is deleted."""

_NODE_PREFIX = bytes([len(Tag.STATE_NODE.value)]) + Tag.STATE_NODE.value
_LEAF_PREFIX = bytes([len(Tag.STATE_LEAF.value)]) + Tag.STATE_LEAF.value


@dataclass(frozen=True, slots=True)
class TreeUpdate:
    """The root after a block, and the pages to write (None: delete)."""

    root: bytes
    node_writes: dict[bytes, bytes | None]


@record
class LeafNode:
    """What stands at the end of a proof's path: a key hash and its value hash."""

    key_hash: Hash32
    value_hash: Hash32


@record
class Proof:
    """Siblings from the root down to where the path ends: at `leaf`, or at an empty subtree."""

    siblings: Annotated[tuple[Hash32, ...], Max(DEPTH_MAX)]
    leaf: LeafNode | None


def update(node_reader: NodeReader, root: bytes, dirty: Sequence[tuple[bytes, bytes | None]]) -> TreeUpdate:
    """Apply a block's changes (each key once; None deletes) in one pass over the pages they touch."""
    if not dirty:
        return TreeUpdate(root, {})
    hashed: list[_Dirty] = []
    for key, value in dirty:
        key_hash = hash_tagged(Tag.STATE_KEY, key)
        hashed.append((key_hash.hex(), key_hash, None if value is None else hash_tagged(Tag.STATE_VALUE, value)))
    hashed.sort()
    writer = _Writer(node_reader)
    slot = writer.update_page("", hashed, 0, len(hashed))
    return TreeUpdate(EMPTY_ROOT if slot is None else slot[0], writer.writes)


def prove(node_reader: NodeReader, key: bytes) -> Proof:
    """Proof of what the key holds, or that it holds nothing."""
    key_hash = hash_tagged(Tag.STATE_KEY, key)
    digits = key_hash.hex()
    siblings: list[bytes] = []
    for depth in range(len(digits)):
        page = node_reader(digits[:depth].encode())
        if page is None:
            assert depth == 0, "a branch has its page"
            return Proof((), None)
        levels = _fold_levels(_decode_page(page))
        place = int(digits[depth], 16)
        for height in range(4, -1, -1):
            node = levels[height][place >> height]
            if node is None:
                return Proof(tuple(siblings), None)
            _, leaf_key, leaf_value = node
            if leaf_key is not None and leaf_value is not None:
                return Proof(tuple(siblings), LeafNode(leaf_key, leaf_value))
            if height:
                sibling = levels[height - 1][(place >> (height - 1)) ^ 1]
                siblings.append(EMPTY_ROOT if sibling is None else sibling[0])
    raise AssertionError("two keys share all 256 bits")


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether the state under `root` holds exactly `value` under `key` (None: holds nothing)."""
    key_hash = hash_tagged(Tag.STATE_KEY, key)
    bits, depth = int.from_bytes(key_hash, "big"), len(proof.siblings)
    if proof.leaf is None:
        if value is not None:
            return False
        node = EMPTY_ROOT
    else:
        leaf = proof.leaf
        if value is not None:
            if leaf.key_hash != key_hash or leaf.value_hash != hash_tagged(Tag.STATE_VALUE, value):
                return False
        elif leaf.key_hash == key_hash or (int.from_bytes(leaf.key_hash, "big") ^ bits) >> (DEPTH_MAX - depth):
            return False
        node = _hash_leaf(leaf.key_hash, leaf.value_hash)
    for level in range(depth - 1, -1, -1):
        sibling = proof.siblings[level]
        is_right = bits >> (DEPTH_MAX - 1 - level) & 1
        node = _hash_node(sibling, node) if is_right else _hash_node(node, sibling)
    return node == root


class _Writer:
    """One pass: reads pages as it descends, collects what to write as it comes back."""

    def __init__(self, node_reader: NodeReader) -> None:
        self._read = node_reader
        self.writes: dict[bytes, bytes | None] = {}

    def update_page(self, path: str, dirty: Sequence[_Dirty], start: int, stop: int) -> _Slot:
        """Apply dirty[start:stop], whose keys all start with `path`; returns what stands in the parent's slot."""
        page = self._read(path.encode())
        slots: list[_Slot] = [None] * _SLOTS if page is None else _decode_page(page)
        depth = len(path)
        while start < stop:
            digit = dirty[start][0][depth]
            end = start + 1
            while end < stop and dirty[end][0][depth] == digit:
                end += 1
            index = int(digit, 16)
            slot = slots[index]
            if slot is not None and slot[1] is None:
                slots[index] = self.update_page(path + digit, dirty, start, end)
            else:
                slots[index] = self._replace_leaf(path + digit, slot, dirty[start:end])
            start = end
        return self._close_page(path, slots, page is not None)

    def _replace_leaf(self, path: str, slot: _Slot, dirty: Sequence[_Dirty]) -> _Slot:
        """An empty slot, or one with a single leaf, after `dirty`."""
        leaves: list[_Leaf] = [(digits, key, value) for digits, key, value in dirty if value is not None]
        if slot is not None:
            _, key_hash, value_hash = slot
            assert key_hash is not None
            assert value_hash is not None
            if all(key != key_hash for _, key, _ in dirty):
                if not leaves:
                    return slot
                leaves.append((key_hash.hex(), key_hash, value_hash))
                leaves.sort()
        return self._build(path, leaves)

    def _build(self, path: str, leaves: Sequence[_Leaf]) -> _Slot:
        """A fresh subtree of sorted leaves."""
        if not leaves:
            return None
        if len(leaves) == 1:
            _, key_hash, value_hash = leaves[0]
            return _hash_leaf(key_hash, value_hash), key_hash, value_hash
        slots: list[_Slot] = [None] * _SLOTS
        depth, start = len(path), 0
        while start < len(leaves):
            digit = leaves[start][0][depth]
            end = start + 1
            while end < len(leaves) and leaves[end][0][depth] == digit:
                end += 1
            slots[int(digit, 16)] = self._build(path + digit, leaves[start:end])
            start = end
        return self._close_page(path, slots, False)

    def _close_page(self, path: str, slots: list[_Slot], existed: bool) -> _Slot:
        """Write the page, or delete it where it came down to nothing or to one leaf (which moves up a page)."""
        taken = [slot for slot in slots if slot is not None]
        if not taken or (len(taken) == 1 and taken[0][1] is not None and path):
            if existed:
                self.writes[path.encode()] = None
            return taken[0] if taken else None
        self.writes[path.encode()] = _encode_page(slots)
        return _fold(slots)


def _fold(slots: Sequence[_Slot]) -> _Slot:
    """The four binary levels above 16 slots, as one node."""
    level = slots
    while len(level) > 1:
        level = [_join(level[index], level[index + 1]) for index in range(0, len(level), 2)]
    return level[0]


def _fold_levels(slots: Sequence[_Slot]) -> list[Sequence[_Slot]]:
    """All levels of a page, from the 16 slots to its one top."""
    levels = [slots]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([_join(below[index], below[index + 1]) for index in range(0, len(below), 2)])
    return levels


def _join(left: _Slot, right: _Slot) -> _Slot:
    if left is None:
        if right is None or right[1] is not None:
            return right
        return blake2b(_NODE_PREFIX + EMPTY_ROOT + right[0], digest_size=HASH_BYTES).digest(), None, None
    if right is None:
        if left[1] is not None:
            return left
        return blake2b(_NODE_PREFIX + left[0] + EMPTY_ROOT, digest_size=HASH_BYTES).digest(), None, None
    return blake2b(_NODE_PREFIX + left[0] + right[0], digest_size=HASH_BYTES).digest(), None, None


def _hash_node(left: bytes, right: bytes) -> bytes:
    return blake2b(_NODE_PREFIX + left + right, digest_size=HASH_BYTES).digest()


def _hash_leaf(key_hash: bytes, value_hash: bytes) -> bytes:
    return blake2b(_LEAF_PREFIX + key_hash + value_hash, digest_size=HASH_BYTES).digest()


def _encode_page(slots: Sequence[_Slot]) -> bytes:
    """Two masks of 16 bits (taken, leaf), then 32 bytes a slot: its hash; then key and value hash of each leaf."""
    taken = leaf = 0
    hashes, leaves = [], []
    for index, slot in enumerate(slots):
        if slot is None:
            continue
        taken |= 1 << index
        hashes.append(slot[0])
        if slot[1] is not None and slot[2] is not None:
            leaf |= 1 << index
            leaves.append(slot[1])
            leaves.append(slot[2])
    return b"".join((taken.to_bytes(2, "big"), leaf.to_bytes(2, "big"), *hashes, *leaves))


def _decode_page(page: bytes) -> list[_Slot]:
    taken, leaf = int.from_bytes(page[:2], "big"), int.from_bytes(page[2:4], "big")
    at, leaf_at = 4, 4 + HASH_BYTES * taken.bit_count()
    slots: list[_Slot] = [None] * _SLOTS
    for index in range(_SLOTS):
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
