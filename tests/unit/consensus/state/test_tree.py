"""The tree against a naive rebuild, its proofs, and every way a proof may lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.state.tree import EMPTY_ROOT, LeafNode, Proof, prove, update, verify_proof
from proto_specs.hashing import Tag, hash_tagged

KEYS = st.binary(min_size=1, max_size=2)
VALUES = st.binary(max_size=3)


def compute_naive_root(items: Mapping[bytes, bytes]) -> bytes:
    """The root by its definition (state.md), bit by bit."""
    leaves = [
        (
            f"{int.from_bytes(hash_tagged(Tag.STATE_KEY, key), 'big'):0256b}",
            hash_tagged(Tag.STATE_LEAF, hash_tagged(Tag.STATE_KEY, key) + hash_tagged(Tag.STATE_VALUE, value)),
        )
        for key, value in items.items()
    ]

    def fold(part: list[tuple[str, bytes]], depth: int) -> bytes:
        if len(part) <= 1:
            return part[0][1] if part else EMPTY_ROOT
        left = [one for one in part if one[0][depth] == "0"]
        right = [one for one in part if one[0][depth] == "1"]
        return hash_tagged(Tag.STATE_NODE, fold(left, depth + 1) + fold(right, depth + 1))

    return fold(leaves, 0)


class Tree:
    """A tree with its pages in a dict."""

    def __init__(self) -> None:
        self.pages: dict[bytes, bytes] = {}
        self.root = EMPTY_ROOT

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """One block's update."""
        result = update(self.pages.get, self.root, sorted(changes.items()))
        self.root = result.root
        for path, page in result.node_writes.items():
            if page is None:
                del self.pages[path]
            else:
                self.pages[path] = page


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(KEYS, st.none() | VALUES, max_size=30), max_size=6))
def test_any_history_gives_the_root_of_its_items(blocks: list[dict[bytes, bytes | None]]) -> None:
    tree, items = Tree(), dict[bytes, bytes]()
    for changes in blocks:
        tree.apply(changes)
        for key, value in changes.items():
            if value is None:
                items.pop(key, None)
            else:
                items[key] = value
        assert tree.root == compute_naive_root(items)
        fresh = Tree()
        fresh.apply(dict(items))
        assert fresh.root == tree.root
        assert fresh.pages == tree.pages, "pages are left over, or missing"


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=40), KEYS, VALUES)
def test_proofs_tell_the_truth_and_nothing_else(items: dict[bytes, bytes], probe: bytes, other: bytes) -> None:
    tree = Tree()
    tree.apply(dict(items))
    for key in [*list(items)[:5], probe]:
        proof, value = prove(tree.pages.get, key), items.get(key)
        assert verify_proof(tree.root, key, value, proof)
        assert not verify_proof(tree.root, key, other, proof) or other == value
        if value is not None:
            assert not verify_proof(tree.root, key, None, proof)
        assert not verify_proof(bytes([1]) * 32, key, value, proof)


def build_tree(count: int = 200) -> tuple[Tree, dict[bytes, bytes]]:
    items = {b"key%d" % number: b"value%d" % number for number in range(count)}
    tree = Tree()
    tree.apply(dict(items))
    return tree, items


def test_empty_and_single_trees() -> None:
    tree = Tree()
    assert verify_proof(EMPTY_ROOT, b"a", None, prove(tree.pages.get, b"a"))
    tree.apply({b"a": b"1"})
    key_hash, value_hash = hash_tagged(Tag.STATE_KEY, b"a"), hash_tagged(Tag.STATE_VALUE, b"1")
    assert tree.root == hash_tagged(Tag.STATE_LEAF, key_hash + value_hash)
    assert prove(tree.pages.get, b"a") == Proof((), LeafNode(key_hash, value_hash))
    tree.apply({b"a": None})
    assert (tree.root, tree.pages) == (EMPTY_ROOT, {})


def test_an_update_writes_only_the_pages_on_its_way() -> None:
    tree, _ = build_tree(5_000)
    assert len(tree.pages) > 300
    assert len(update(tree.pages.get, tree.root, [(b"key7", b"new")]).node_writes) <= 5
    assert update(tree.pages.get, tree.root, []).node_writes == {}


def test_tampered_proofs_fail() -> None:
    tree, items = build_tree()
    proof = prove(tree.pages.get, b"key7")
    assert proof.leaf is not None
    assert verify_proof(tree.root, b"key7", items[b"key7"], proof)
    for index in range(len(proof.siblings)):
        siblings = list(proof.siblings)
        siblings[index] = bytes([siblings[index][0] ^ 1]) + siblings[index][1:]
        assert not verify_proof(tree.root, b"key7", items[b"key7"], replace(proof, siblings=tuple(siblings)))
    shorter = replace(proof, siblings=proof.siblings[:-1])
    assert not verify_proof(tree.root, b"key7", items[b"key7"], shorter)
    assert not verify_proof(tree.root, b"key7", None, replace(proof, leaf=None))
    assert not verify_proof(tree.root, b"key8", items[b"key8"], proof)


def test_absence_cannot_be_proven_with_a_leaf_from_elsewhere() -> None:
    tree, items = build_tree()
    present, absent = b"key7", b"nothing here"
    foreign = prove(tree.pages.get, present)
    assert foreign.leaf is not None
    assert not verify_proof(tree.root, absent, None, foreign)
    own = prove(tree.pages.get, absent)
    assert verify_proof(tree.root, absent, None, own)
    assert not verify_proof(tree.root, absent, items[present], own)
