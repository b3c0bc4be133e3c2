"""Binary Merkle tree over an ordered list (RFC 6962 shape, tagged BLAKE2b): bodies, weight chunks, request leaves.

The root binds the items and their order, not their number: the checker of a proof takes `count` from an authenticated
source (a manifest's file size, signed stage roots). With a wrong count a proof may pass for a wrong index.
"""

from __future__ import annotations

from collections.abc import Sequence

from proto_specs.hashing import Tag, hash_tagged

EMPTY_ROOT = bytes(32)


def hash_leaf(item: bytes) -> bytes:
    """The leaf of an item."""
    return hash_tagged(Tag.MERKLE_LEAF, item)


def compute_root(items: Sequence[bytes]) -> bytes:
    """Root over `items`; 32 zero bytes for an empty list. Items are hashed as leaves and may have any length."""
    return compute_root_of_leaves([hash_leaf(item) for item in items])


def compute_root_of_leaves(leaves: Sequence[bytes]) -> bytes:
    """As `compute_root`, from the items' leaves."""
    level = list(leaves)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        level = _parents(level)
    return level[0]


class MerkleFrontier:
    """The root of a list that grows, in a logarithm of its length for each item: the same as `compute_root` of it."""

    def __init__(self) -> None:
        self._count = 0
        self._peaks: list[bytes] = []  # the roots of the full subtrees, the largest first

    def append(self, item: bytes) -> bytes:
        """Add an item; the root over all there are now."""
        node = hash_leaf(item)
        for height in range(self._count.bit_length()):
            if not self._count >> height & 1:
                break
            node = hash_tagged(Tag.MERKLE_NODE, self._peaks.pop() + node)
        self._peaks.append(node)
        self._count += 1
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = hash_tagged(Tag.MERKLE_NODE, peak + root)
        return root


def compute_proof(items: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Sibling hashes from leaf `index` up to the root (a level without a sibling adds none)."""
    assert 0 <= index < len(items), "proofs are for items of the list"
    level = [hash_leaf(item) for item in items]
    proof: list[bytes] = []
    while len(level) > 1:
        if index ^ 1 < len(level):
            proof.append(level[index ^ 1])
        level = _parents(level)
        index >>= 1
    return tuple(proof)


def is_proof_valid(root: bytes, item: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Whether `item` is number `index` of the `count` items under `root`. `count` must be known, not claimed."""
    if not 0 <= index < count:
        return False
    node = hash_leaf(item)
    siblings = iter(proof)
    while count > 1:
        if index ^ 1 < count:
            sibling = next(siblings, None)
            if sibling is None:
                return False
            pair = sibling + node if index & 1 else node + sibling
            node = hash_tagged(Tag.MERKLE_NODE, pair)
        index >>= 1
        count = (count + 1) >> 1
    return node == root and next(siblings, None) is None


def _parents(level: list[bytes]) -> list[bytes]:
    paired = [hash_tagged(Tag.MERKLE_NODE, left + right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return paired + level[-1:] if len(level) & 1 else paired
