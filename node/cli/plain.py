"""Names and values in two columns, never cut: what is printed can be copied."""

from __future__ import annotations

from collections.abc import Iterable


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """One line a pair, the names padded to the longest."""
    rows = list(pairs)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}".rstrip())
