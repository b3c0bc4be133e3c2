"""A tree built in one pass is the tree that updates lead to, page by page."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consensus.state.build import build_tree
from consensus.state.page import hash_key, hash_value
from consensus.state.tree import EMPTY_ROOT, update

ITEMS = st.dictionaries(st.binary(min_size=1, max_size=3), st.binary(max_size=3), max_size=200)


@settings(max_examples=150, deadline=None)
@given(ITEMS)
@example({})
@example({b"a": b""})
@example({b"%d" % number: b"1" for number in range(3_000)})
def test_it_is_the_tree_of_updates(items: dict[bytes, bytes]) -> None:
    expected = update(lambda path: None, EMPTY_ROOT, sorted(items.items()))
    pages: dict[bytes, bytes] = {}

    def write(path: bytes, page: bytes) -> None:
        assert path not in pages, "each page once"
        pages[path] = page

    leaves = sorted((hash_key(key), hash_value(value)) for key, value in items.items())
    assert build_tree(iter(leaves), write) == expected.root
    assert pages == expected.node_writes


@pytest.mark.parametrize("shared", [0, 1, 7, 61])
def test_leaves_too_many_for_a_page_that_share_digits_lie_below_branches(shared: int) -> None:
    """33 leaves under one path of zeros: a branch for every digit they share, and one where they part."""
    leaves = [((number << 4 * (62 - shared)).to_bytes(32, "big") if shared < 62 else b"") for number in range(33)]
    pages: dict[bytes, bytes] = {}
    build_tree(iter([(key_hash, bytes(32)) for key_hash in leaves]), pages.__setitem__)
    branches = sorted(path for path, page in pages.items() if not page[0])
    assert branches == [b"0" * depth for depth in range(shared + 1)]
    assert sum(page[0] for page in pages.values()) == 33


def test_leaves_out_of_order_are_a_bug_of_the_caller() -> None:
    leaf = (bytes(32), bytes(32))
    with pytest.raises(AssertionError, match="rise"):
        build_tree(iter([leaf, leaf]), lambda path, page: None)
