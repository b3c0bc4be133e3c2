"""Builds a tree, or a part of it, in one pass over leaves sorted by key hash. Looks one page of leaves ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from consensus.state.page import (
    BRANCH,
    EMPTY_ROOT,
    LEAVES_MAX,
    NOTHING,
    SLOTS,
    Child,
    Leaf,
    encode_branch,
    encode_leaves,
    get_digit,
    hash_page,
)

PageWriter = Callable[[bytes, bytes], None]
"""(path, page): called once for every page, children before parents."""


def build_tree(leaves: Iterator[Leaf], write_page: PageWriter) -> bytes:
    """Returns the root over strictly rising (key hash, value hash) leaves; writes the same pages as `update` would."""
    builder = Builder(leaves, write_page)
    return builder.build("")[1] if builder.has_more else EMPTY_ROOT


class Builder:
    """Takes strictly rising leaves. Holds LEAVES_MAX + 1 of them in memory, and one branch for each open level."""

    def __init__(self, leaves: Iterator[Leaf], write_page: PageWriter) -> None:
        self._leaves = leaves
        self._write = write_page
        self._ahead: deque[tuple[str, Leaf]] = deque()
        self._last = ""
        self._fill()

    @property
    def has_more(self) -> bool:
        """Whether leaves are left."""
        return bool(self._ahead)

    def build(self, path: str) -> Child:
        """Writes the pages of the subtree at `path`, which holds at least the next leaf; returns its slot above."""
        ahead = self._ahead
        if len(ahead) <= LEAVES_MAX or not ahead[LEAVES_MAX][0].startswith(path):
            return self._build_leaves(path)
        children = [NOTHING] * SLOTS
        while ahead and ahead[0][0].startswith(path):
            slot = get_digit(ahead[0][1][0], len(path))
            children[slot] = self.build(f"{path}{slot:x}")
        page = encode_branch(children)
        self._write(path.encode(), page)
        return BRANCH, hash_page(page)

    def _build_leaves(self, path: str) -> Child:
        ahead, own = self._ahead, []
        while ahead and ahead[0][0].startswith(path):
            own.append(ahead.popleft()[1])
        self._fill()
        page = encode_leaves(own)
        self._write(path.encode(), page)
        return len(own), hash_page(page)

    def _fill(self) -> None:
        for leaf in islice(self._leaves, LEAVES_MAX + 1 - len(self._ahead)):
            digits = leaf[0].hex()
            assert digits > self._last, "leaves rise strictly"
            self._ahead.append((digits, leaf))
            self._last = digits
