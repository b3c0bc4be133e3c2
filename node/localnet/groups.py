"""Partitions as text and as groups of names. Pure: knows no process."""

from __future__ import annotations

import re
from collections.abc import Sequence

from node.localnet.errors import LocalnetError

Groups = tuple[tuple[str, ...], ...]
"""The groups that a partition keeps apart; names of the same group reach each other. Every validator is in a group."""


def parse_groups(arguments: Sequence[str], names: Sequence[str]) -> Groups:
    """The groups in `a,b c,d` or `a,b | c,d`; names left out form a further group. Raises LocalnetError."""
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
    """Whether two names are in the same group. Without groups all are connected."""
    return not groups or any(one in group and other in group for group in groups)


def format_groups(groups: Groups) -> str:
    """The groups as text that `parse_groups` takes."""
    return " | ".join(",".join(group) for group in groups)
