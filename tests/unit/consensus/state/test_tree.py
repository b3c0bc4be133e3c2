"""The tree against a naive rebuild, its proofs, and every way a proof may lie."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consensus.state.page import hash_page
from consensus.state.tree import EMPTY_ROOT, StateProof, prove, update, verify_proof
from proto_specs.hashing import Tag, hash_tagged

KEYS = st.binary(min_size=1, max_size=2)
FEW_KEYS = st.integers(0, 150).map(lambda number: b"k%d" % number)
VALUES = st.binary(max_size=3)
Changes = dict[bytes, bytes | None]


def compute_naive_root(items: Mapping[bytes, bytes]) -> bytes:
    """The root by its definition (state.md), digit by digit."""
    leaves = sorted(
        (hash_tagged(Tag.STATE_KEY, key), hash_tagged(Tag.STATE_VALUE, value)) for key, value in items.items()
    )

    def fold(part: list[tuple[bytes, bytes]], depth: int) -> tuple[int, bytes]:
        if not part:
            return 0, b""
        if len(part) <= 32:
            return len(part), hash_tagged(Tag.STATE_PAGE, bytes([len(part)]) + b"".join(a + b for a, b in part))
        slots = [fold([one for one in part if one[0].hex()[depth] == digit], depth + 1) for digit in "0123456789abcdef"]
        page = b"\0" + bytes(kind for kind, _ in slots) + b"".join(digest for _, digest in slots)
        return 255, hash_tagged(Tag.STATE_PAGE, page)

    return fold(leaves, 0)[1] or EMPTY_ROOT


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
@given(st.lists(st.dictionaries(KEYS | FEW_KEYS, st.none() | VALUES, max_size=90), max_size=6))
@example([{b"k%d" % one: b"" for one in range(700)}, {b"k%d" % one: None for one in range(670)}])
@example([{b"k%d" % one: b"" for one in range(700)}, {b"k%d" % one: None for one in range(700)}])
@example(
    [{b"k%d" % one: b"" for one in range(33)}, {b"k1": None, b"k2": None, b"k40": b"new"}, {b"k50": b"", b"k3": b"1"}]
)
def test_any_history_gives_the_root_of_its_items(blocks: list[Changes]) -> None:
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
@given(st.dictionaries(KEYS, VALUES, max_size=90), KEYS, VALUES)
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
    assert prove(tree.pages.get, b"a") == StateProof(())
    assert verify_proof(EMPTY_ROOT, b"a", None, StateProof(()))
    assert not verify_proof(EMPTY_ROOT, b"a", b"", StateProof(()))
    tree.apply({b"a": b"1"})
    page = b"\1" + hash_tagged(Tag.STATE_KEY, b"a") + hash_tagged(Tag.STATE_VALUE, b"1")
    assert tree.pages == {b"": page}
    assert tree.root == hash_tagged(Tag.STATE_PAGE, page)
    assert prove(tree.pages.get, b"a") == StateProof((page,))
    assert not verify_proof(tree.root, b"b", None, StateProof(()))
    tree.apply({b"a": None})
    assert (tree.root, tree.pages) == (EMPTY_ROOT, {})


def test_an_update_writes_only_the_pages_on_its_way() -> None:
    tree, _ = build_tree(5_000)
    assert len(tree.pages) > 250
    assert len(update(tree.pages.get, tree.root, [(b"key7", b"new")]).node_writes) <= 4
    assert update(tree.pages.get, tree.root, []).node_writes == {}


def test_what_an_update_reads_is_what_stood_there() -> None:
    """History rests on it: every page written over was read, and no page that never was is deleted."""
    tree, items = build_tree(700)
    for changes in (dict.fromkeys(items, b"x"), dict.fromkeys(list(items)[3:], None), {b"key1": None, b"new": b""}):
        before = dict(tree.pages)
        done = update(before.get, tree.root, sorted(changes.items()))  # type: ignore[type-var]
        assert done.node_reads == {path: page for path, page in before.items() if path in done.node_reads}
        assert all(path in done.node_reads for path in done.node_writes if path in before)
        assert all(page is not None or path in before for path, page in done.node_writes.items())
        tree.apply(changes)


def test_tampered_proofs_fail() -> None:
    tree, items = build_tree()
    proof = prove(tree.pages.get, b"key7")
    assert len(proof.pages) == 2
    assert verify_proof(tree.root, b"key7", items[b"key7"], proof)
    for number, page in enumerate(proof.pages):
        for at in range(len(page)):
            changed = page[:at] + bytes([page[at] ^ 1]) + page[at + 1 :]
            pages = (*proof.pages[:number], changed, *proof.pages[number + 1 :])
            assert not verify_proof(tree.root, b"key7", items[b"key7"], StateProof(pages))
            assert not verify_proof(tree.root, b"key7", None, StateProof(pages))
    shorter, longer = StateProof(proof.pages[:-1]), StateProof((*proof.pages, proof.pages[-1]))
    for other in (shorter, longer, StateProof(())):
        assert not verify_proof(tree.root, b"key7", items[b"key7"], other)
        assert not verify_proof(tree.root, b"key7", None, other)
    assert not verify_proof(tree.root, b"key9", items[b"key9"], proof), "it lies elsewhere"


def test_absence_cannot_be_proven_with_pages_from_elsewhere() -> None:
    tree, items = build_tree()
    present, absent = b"key7", b"nothing here"
    own, foreign = prove(tree.pages.get, absent), prove(tree.pages.get, present)
    assert own != foreign
    assert not verify_proof(tree.root, absent, None, foreign)
    assert verify_proof(tree.root, absent, None, own)
    assert not verify_proof(tree.root, absent, items[present], own)


@pytest.mark.parametrize(
    "page", [b"", b"\0", b"\1", b"\0" + bytes([255]) * 16, bytes([33]) + bytes(33 * 64), b"\1" * 66]
)
def test_a_root_over_a_malformed_page_proves_nothing(page: bytes) -> None:
    """Whoever makes up a root may make up pages too: no exception for it."""
    assert not verify_proof(hash_page(page), b"a", None, StateProof((page,)))
    assert not verify_proof(hash_page(page), b"a", b"", StateProof((page,)))


def test_a_key_hash_found_astride_or_among_the_values_is_no_leaf() -> None:
    key_hash = hash_tagged(Tag.STATE_KEY, b"a")
    as_value = b"\1" + bytes(32) + key_hash
    astride = b"\2" + bytes(16) + key_hash + bytes(80)
    for page in (as_value, astride):
        assert verify_proof(hash_page(page), b"a", None, StateProof((page,)))
