"""The tree of a whole state in one pass over its leaves in order of their key hashes. Holds one page a level."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from consensus.state.page import EMPTY_ROOT, SLOTS, Slot, encode_page, hash_leaf

PageWriter = Callable[[bytes, bytes], None]
"""(path, page): called once for every page, children before parents."""


def build_tree(leaves: Iterator[tuple[bytes, bytes]], write_page: PageWriter) -> bytes:
    """The root over (key hash, value hash) leaves, which rise strictly; the pages are those `update` would leave.

    A leaf lies in the deepest page it shares with a neighbour, so two neighbours decide its place.
    """
    open_pages: list[list[Slot]] = [[None] * SLOTS]
    leaf = next(leaves, None)
    if leaf is None:
        return EMPTY_ROOT
    shared_before = 0
    while leaf is not None:
        following = next(leaves, None)
        key_hash, value_hash = leaf
        shared_after = 0 if following is None else _count_shared(key_hash, following[0])
        assert following is None or following[0] > key_hash, "leaves rise strictly"
        depth = max(shared_before, shared_after)
        digits = key_hash.hex()
        while len(open_pages) <= depth:
            open_pages.append([None] * SLOTS)
        open_pages[depth][int(digits[depth], 16)] = hash_leaf(key_hash, value_hash), key_hash, value_hash
        while len(open_pages) > shared_after + 1:
            _close_lowest(digits, open_pages, write_page)
        leaf, shared_before = following, shared_after
    page, top = encode_page(open_pages[0])
    assert top is not None, "there is a leaf"
    write_page(b"", page)
    return top[0]


def _close_lowest(digits: str, open_pages: list[list[Slot]], write_page: PageWriter) -> None:
    """Write the deepest open page, and hang it into the one above."""
    slots, depth = open_pages.pop(), len(open_pages)
    page, top = encode_page(slots)
    write_page(digits[:depth].encode(), page)
    open_pages[depth - 1][int(digits[depth - 1], 16)] = top


def _count_shared(one: bytes, other: bytes) -> int:
    """Leading hex digits that two different key hashes share."""
    differing = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return (8 * len(one) - differing.bit_length()) // 4
