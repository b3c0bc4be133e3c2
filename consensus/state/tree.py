"""The commitment to the state: a 16-ary Merkle tree over hashed keys. Knows no database and no types.

Shape (normative, state.md). A key's place is the 64 hex digits of H(STATE_KEY, key). A subtree of at most LEAVES_MAX
keys is one page of leaves, however high it stands; any other is a branch of sixteen slots. So the root does not depend
on the order of writes. A page is hashed, stored and proven as the same bytes (page.py); its path is the digits that
lead to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from consensus.state.build import Builder
from consensus.state.page import (
    BRANCH,
    EMPTY_ROOT,
    LEAVES_MAX,
    NOTHING,
    PAGE_BYTES_MAX,
    Child,
    Leaf,
    encode_branch,
    find_child,
    find_value,
    get_digit,
    hash_key,
    hash_page,
    hash_value,
    is_well_formed,
    list_children,
    list_leaves,
)
from proto_specs.codec import Max, record
from proto_specs.hashing import HASH_BYTES

__all__ = ["EMPTY_ROOT", "NodeReader", "StateProof", "TreeUpdate", "prove", "update", "verify_proof"]

DEPTH_MAX = 2 * HASH_BYTES
"""Pages on the way to a key: two keys differ in one of 64 digits."""

NodeReader = Callable[[bytes], bytes | None]
"""path -> page bytes; None where there is no page."""

_Dirty = tuple[str, bytes, bytes | None]
"""(key hash in hex, key hash, value hash); None where the key is deleted."""


@dataclass(frozen=True, slots=True)
class TreeUpdate:
    """The root after a block, the pages to write (None: delete), and the earlier content of the pages they replace."""

    root: bytes
    node_writes: dict[bytes, bytes | None]
    node_reads: dict[bytes, bytes]


@record
class StateProof:
    """The pages from the root to the page where the key is or would be. None in an empty tree."""

    pages: Annotated[tuple[Annotated[bytes, Max(PAGE_BYTES_MAX)], ...], Max(DEPTH_MAX)]


def update(node_reader: NodeReader, root: bytes, dirty: Sequence[tuple[bytes, bytes | None]]) -> TreeUpdate:
    """Apply a block's changes (each key once; None deletes) in one pass over the pages they touch."""
    if not dirty:
        return TreeUpdate(root, {}, {})
    hashed: list[_Dirty] = []
    for key, value in dirty:
        key_hash = hash_key(key)
        hashed.append((key_hash.hex(), key_hash, None if value is None else hash_value(value)))
    hashed.sort()
    writer = _Writer(node_reader, hashed)
    _, digest = writer.update_page("", 0, len(hashed))
    return TreeUpdate(digest, writer.writes, writer.reads)


def prove(node_reader: NodeReader, key: bytes) -> StateProof:
    """Proves the value under `key`, or that the key is absent."""
    key_hash = hash_key(key)
    digits, pages = key_hash.hex(), list[bytes]()
    for depth in range(DEPTH_MAX):
        page = node_reader(digits[:depth].encode())
        if page is None:
            assert depth == 0, "a branch has its pages"
            break
        pages.append(page)
        if page[0] or not page[1 + get_digit(key_hash, depth)]:
            break
    return StateProof(tuple(pages))


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: StateProof) -> bool:
    """Whether the state under `root` holds exactly `value` under `key` (None: holds nothing)."""
    if not proof.pages:
        return value is None and root == EMPTY_ROOT
    key_hash, expected, last = hash_key(key), root, len(proof.pages) - 1
    for depth, page in enumerate(proof.pages):
        if hash_page(page) != expected or not is_well_formed(page):
            return False
        if page[0]:
            at = find_value(page, key_hash)
            found = page[at : at + HASH_BYTES] if at >= 0 else None
            return depth == last and found == (None if value is None else hash_value(value))
        slot = get_digit(key_hash, depth)
        if not page[1 + slot]:
            return depth == last and value is None
        at = find_child(page, slot)
        expected = page[at : at + HASH_BYTES]
    return False


class _Writer:
    """A single pass over the tree: reads pages on the way down and collects the pages to write on the way back."""

    def __init__(self, node_reader: NodeReader, dirty: Sequence[_Dirty]) -> None:
        self._read = node_reader
        self._dirty = dirty
        self.writes: dict[bytes, bytes | None] = {}
        self.reads: dict[bytes, bytes] = {}

    def update_page(self, path: str, start: int, stop: int) -> Child:
        """Applies dirty[start:stop], whose keys all start with `path`; returns the new content of the parent's slot."""
        key = path.encode()
        page = self._read(key)
        if page is None:
            assert not path, "a branch has its pages"
            return self._build(path, self._list_new(start, stop))
        self.reads[key] = page
        return self._update_leaves(path, page, start, stop) if page[0] else self._update_branch(path, page, start, stop)

    def _update_leaves(self, path: str, page: bytes, start: int, stop: int) -> Child:
        """Updates a page of leaves. Changed values are overwritten in place; added or deleted keys rebuild the page."""
        patched = bytearray(page)
        for _, key_hash, value_hash in self._dirty[start:stop]:
            at = find_value(page, key_hash)
            if value_hash is None or at < 0:
                break
            patched[at : at + HASH_BYTES] = value_hash
        else:
            self.writes[path.encode()] = page = bytes(patched)
            return page[0], hash_page(page)
        leaves = dict(list_leaves(page))
        for _, key_hash, value_hash in self._dirty[start:stop]:
            if value_hash is None:
                leaves.pop(key_hash, None)
            else:
                leaves[key_hash] = value_hash
        return self._build(path, sorted(leaves.items()))

    def _update_branch(self, path: str, page: bytes, start: int, stop: int) -> Child:
        """Updates a branch. Changed hashes are overwritten in place; a slot of another kind rebuilds the branch."""
        patched, moved, depth = bytearray(page), dict[int, Child](), len(path)
        for slot, first, end in self._group(depth, start, stop):
            kind, below = page[1 + slot], f"{path}{slot:x}"
            child = self.update_page(below, first, end) if kind else self._build(below, self._list_new(first, end))
            if child[0] != kind:
                moved[slot] = child
            elif kind:
                at = find_child(page, slot)
                patched[at : at + HASH_BYTES] = child[1]
        page = bytes(patched)
        if moved:
            children = list_children(page)
            for slot, child in moved.items():
                children[slot] = child
            kinds = [kind for kind, _ in children]
            if BRANCH not in kinds and sum(kinds) <= LEAVES_MAX:
                return self._collapse(path, kinds)
            page = encode_branch(children)
        self.writes[path.encode()] = page
        return BRANCH, hash_page(page)

    def _collapse(self, path: str, kinds: Sequence[int]) -> Child:
        """Replaces a branch by one page when few enough leaves are left under it."""
        leaves: list[Leaf] = []
        for slot, kind in enumerate(kinds):
            if not kind:
                continue
            key = f"{path}{slot:x}".encode()
            page = self.writes.get(key)
            if page is None:
                page = self._read(key)
                assert page is not None, "a branch has its pages"
                self.reads[key] = page
            leaves += list_leaves(page)
            self._delete(key)
        return self._build(path, leaves)

    def _build(self, path: str, leaves: Sequence[Leaf]) -> Child:
        """Builds the subtree of sorted leaves that replaces the pages at `path`."""
        if not leaves:
            self._delete(path.encode())
            return NOTHING
        return Builder(iter(leaves), self.writes.__setitem__).build(path)

    def _delete(self, key: bytes) -> None:
        if key in self.reads:
            self.writes[key] = None
        else:
            self.writes.pop(key, None)

    def _list_new(self, start: int, stop: int) -> list[Leaf]:
        return [(key_hash, value) for _, key_hash, value in self._dirty[start:stop] if value is not None]

    def _group(self, depth: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(slot, first, end) of the runs of sorted keys that share the hex digit at `depth`."""
        dirty = self._dirty
        while start < stop:
            digit, end = dirty[start][0][depth], start + 1
            while end < stop and dirty[end][0][depth] == digit:
                end += 1
            yield int(digit, 16), start, end
            start = end
