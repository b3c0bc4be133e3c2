"""Columns of text that are never cut: a user can copy any value into the next command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print a line for each pair, with the names padded to the longest."""
    rows = list(pairs)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}".rstrip())


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> None:
    """Print rows under a header; the columns named in `right` are aligned to the right."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    signs = [">" if name in set(right) else "<" for name in header]
    for line in lines:
        cells = (f"{cell:{sign}{width}}" for cell, sign, width in zip(line, signs, widths, strict=True))
        print("  ".join(cells).rstrip())
