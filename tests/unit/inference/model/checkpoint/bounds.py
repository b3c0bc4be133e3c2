"""Asserts that refusing an input is cheap and says one line; and ways to damage the bytes of a file."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from inference.errors import ModelFormatError

BYTES_MAX = 4 << 20
SECONDS_MAX = 5


def assert_refused(open_it: Callable[[], object], match: str | None = None) -> None:
    """`open_it` raises ModelFormatError in one line, with little memory and time."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(ModelFormatError, match=match) as raised:
            open_it()
        assert time.perf_counter() - start < SECONDS_MAX
        assert tracemalloc.get_traced_memory()[1] < BYTES_MAX
    finally:
        tracemalloc.stop()
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 1000


Edit = tuple[int, bytes, int]


def edits(size: int) -> st.SearchStrategy[list[Edit]]:
    """Edits of a file of `size` bytes: where, what is put there, and how many bytes it takes the place of."""
    words = st.sampled_from([2**63, 2**64 - 1, 2**60, 2**32, 2**31, 2**16, 255, 1, 0])
    pieces = st.one_of(
        st.binary(max_size=9),
        words.map(lambda word: word.to_bytes(8, "little")),
        words.map(lambda word: (word & 0xFFFFFFFF).to_bytes(4, "little")),
    )
    edit = st.tuples(st.integers(0, size), pieces, st.integers(0, 16)).map(
        lambda found: (found[0], found[1], found[2] if found[2] > 8 else len(found[1]))
    )
    return st.lists(edit, min_size=1, max_size=4)


def apply(data: bytes, changes: list[Edit]) -> bytes:
    """The damaged bytes."""
    for at, piece, taken in changes:
        data = data[:at] + piece + data[at + taken :]
    return data
