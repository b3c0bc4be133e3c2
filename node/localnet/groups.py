"""Partitions as text and as groups of names. Pure: knows no process."""

from __future__ import annotations

import re
from collections.abc import Sequence

from node.localnet.errors import LocalnetError

Groups = tuple[tuple[str, ...], ...]
"""Who reaches whom: names of one group do, names of two do not. Every validator is in exactly one."""


def parse_groups(arguments: Sequence[str], names: Sequence[str]) -> Groups:
    """`a,b c,d` or `a,b | c,d`: one group each, and one more of the names left out. Raises LocalnetError."""
    texts = [one for argument in arguments for one in re.split(r"[|\s]+", argument) if one]
    groups = [tuple(name for name in text.split(",") if name) for text in texts]
    named = [name for group in groups for name in group]
    unknown = sorted(set(named) - set(names))
    if unknown:
        raise LocalnetError(f"no validator is called {', '.join(unknown)}; there are {', '.join(names)}")
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise LocalnetError(f"{', '.join(twice)} cannot be in two groups")
    rest = tuple(name for name in names if name not in named)
    found = tuple(group for group in (*groups, rest) if group)
    if len(found) < 2:
        raise LocalnetError("a partition has at least two groups, such as `alice,bob charlie,dave` or `dave` alone")
    return found


def is_connected(groups: Groups, one: str, other: str) -> bool:
    """Whether the two are in one group. No groups at all: everybody is."""
    return not groups or any(one in group and other in group for group in groups)


def format_groups(groups: Groups) -> str:
    """As `parse_groups` takes it."""
    return " | ".join(",".join(group) for group in groups)
