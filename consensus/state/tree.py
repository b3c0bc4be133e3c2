"""The commitment to the state: a compact sparse binary Merkle tree over hashed keys. Knows no database and no types.

Shape (normative, state.md). A key's place is the 256 bits of H(STATE_KEY, key), most significant first. An empty
subtree hashes to zero; a subtree of ONE leaf is that leaf, H(STATE_LEAF, key hash || H(STATE_VALUE, value)), however
high it stands; any other subtree is H(STATE_NODE, left || right). So the root does not depend on the order of writes.

Storage (not normative). Four binary levels are kept as one page of 16 slots (page.py), addressed by the hex digits
that lead to it; a slot is empty, a leaf, or a branch whose page lies one digit further. Only the latest tree is kept,
in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from consensus.state.page import EMPTY_ROOT, SLOTS, Page, Slot, encode_page, hash_key, hash_leaf, hash_node, hash_value
from proto_specs.codec import Max, record
from proto_specs.types.common import Hash32

__all__ = ["EMPTY_ROOT", "LeafNode", "NodeReader", "Proof", "TreeUpdate", "prove", "update", "verify_proof"]

DEPTH_MAX = 256

NodeReader = Callable[[bytes], bytes | None]
"""path -> page bytes; None where there is no page."""

_Leaf = tuple[str, bytes, bytes]
"""(key hash in hex, key hash, value hash)."""
_Dirty = tuple[str, bytes, bytes | None]
"""As `_Leaf`; the value hash is None where the key is deleted."""
_Run = tuple[int, int, int]
"""(slot, first, end): dirty[first:end] all belong under this slot of a page."""


@dataclass(frozen=True, slots=True)
class TreeUpdate:
    """The root after a block, the pages to write (None: delete), and what stood at those that were there before."""

    root: bytes
    node_writes: dict[bytes, bytes | None]
    node_reads: dict[bytes, bytes]


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
        return TreeUpdate(root, {}, {})
    hashed: list[_Dirty] = []
    for key, value in dirty:
        key_hash = hash_key(key)
        hashed.append((key_hash.hex(), key_hash, None if value is None else hash_value(value)))
    hashed.sort()
    writer = _Writer(node_reader)
    slot = writer.update_page("", hashed, 0, len(hashed))
    return TreeUpdate(EMPTY_ROOT if slot is None else slot[0], writer.writes, writer.reads)


def prove(node_reader: NodeReader, key: bytes) -> Proof:
    """Proof of what the key holds, or that it holds nothing."""
    key_hash = hash_key(key)
    digits = key_hash.hex()
    siblings: list[bytes] = []
    for depth in range(len(digits)):
        encoded = node_reader(digits[:depth].encode())
        if encoded is None:
            assert depth == 0, "a branch has its page"
            return Proof((), None)
        page, slot, node = Page(encoded), SLOTS + int(digits[depth], 16), 1
        while (leaf := page.get_leaf(node)) is None and node < SLOTS:
            node = slot >> (slot.bit_length() - node.bit_length() - 1)
            siblings.append(page.get_hash(node ^ 1))
            if not page.has(node):
                return Proof(tuple(siblings), None)
        if leaf is not None:
            return Proof(tuple(siblings), LeafNode(*leaf))
    raise AssertionError("two keys share all 256 bits")


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether the state under `root` holds exactly `value` under `key` (None: holds nothing)."""
    key_hash = hash_key(key)
    bits, depth = int.from_bytes(key_hash, "big"), len(proof.siblings)
    if proof.leaf is None:
        if value is not None:
            return False
        node = EMPTY_ROOT
    else:
        leaf = proof.leaf
        if value is not None:
            if leaf.key_hash != key_hash or leaf.value_hash != hash_value(value):
                return False
        elif leaf.key_hash == key_hash:
            return False
        node = hash_leaf(leaf.key_hash, leaf.value_hash)
    for level in range(depth - 1, -1, -1):
        sibling = proof.siblings[level]
        is_right = bits >> (DEPTH_MAX - 1 - level) & 1
        node = hash_node(sibling, node) if is_right else hash_node(node, sibling)
    return node == root


class _Writer:
    """One pass: reads pages as it descends, collects what to write as it comes back."""

    def __init__(self, node_reader: NodeReader) -> None:
        self._read = node_reader
        self.writes: dict[bytes, bytes | None] = {}
        self.reads: dict[bytes, bytes] = {}

    def update_page(self, path: str, dirty: Sequence[_Dirty], start: int, stop: int) -> Slot:
        """Apply dirty[start:stop], whose keys all start with `path`; returns what stands in the parent's slot."""
        encoded = self._read(path.encode())
        if encoded is None:
            assert not path, "a branch has its page"
            return self._reshape(path, [None] * SLOTS, dirty, list(_group(dirty, 0, start, stop)), False)
        self.reads[path.encode()] = encoded
        page = Page(encoded)
        moved: dict[int, Slot] = {}
        reshaping: list[_Run] = []
        for run in _group(dirty, len(path), start, stop):
            slot, first, end = run
            node = page.find(slot)
            leaf, value_hash = page.get_leaf(node), dirty[first][2]
            if leaf is not None and value_hash is not None and end == first + 1 and leaf[0] == dirty[first][1]:
                page.patch_leaf(node, leaf[0], value_hash)
            elif leaf is None and node >= SLOTS:
                below = self.update_page(f"{path}{slot:x}", dirty, first, end)
                if below is not None and below[1] is None:
                    page.patch_branch(node, below[0])
                else:
                    moved[slot] = below
            else:
                reshaping.append(run)
        if not moved and not reshaping:
            self.writes[path.encode()], top = page.close()
            return top, None, None
        slots = page.to_slots(len(path))
        for slot, below in moved.items():
            slots[slot] = below
        return self._reshape(path, slots, dirty, reshaping, True)

    def _reshape(
        self, path: str, slots: list[Slot], dirty: Sequence[_Dirty], runs: Sequence[_Run], existed: bool
    ) -> Slot:
        """A page some of whose slots, empty or single leaves until now, change what they are."""
        for slot, first, end in runs:
            slots[slot] = self._replace_leaf(f"{path}{slot:x}", slots[slot], dirty[first:end])
        return self._close_page(path, slots, existed)

    def _replace_leaf(self, path: str, slot: Slot, dirty: Sequence[_Dirty]) -> Slot:
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

    def _build(self, path: str, leaves: Sequence[_Leaf]) -> Slot:
        """A fresh subtree of sorted leaves."""
        if not leaves:
            return None
        if len(leaves) == 1:
            _, key_hash, value_hash = leaves[0]
            return hash_leaf(key_hash, value_hash), key_hash, value_hash
        slots: list[Slot] = [None] * SLOTS
        for index, first, end in _group(leaves, len(path), 0, len(leaves)):
            slots[index] = self._build(f"{path}{index:x}", leaves[first:end])
        return self._close_page(path, slots, False)

    def _close_page(self, path: str, slots: list[Slot], existed: bool) -> Slot:
        """Write the page, or delete it where it came down to nothing or to one leaf (which moves up a page)."""
        taken = [slot for slot in slots if slot is not None]
        if not taken or (len(taken) == 1 and taken[0][1] is not None and path):
            if existed:
                self.writes[path.encode()] = None
            return taken[0] if taken else None
        self.writes[path.encode()], top = encode_page(slots)
        return top


def _group(keys: Sequence[tuple[str, bytes, bytes | None]], depth: int, start: int, stop: int) -> Iterator[_Run]:
    """The runs of sorted keys that share the hex digit at `depth`."""
    while start < stop:
        digit, end = keys[start][0][depth], start + 1
        while end < stop and keys[end][0][depth] == digit:
            end += 1
        yield int(digit, 16), start, end
        start = end
