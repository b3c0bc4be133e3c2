"""A draft: tokens that may come next, each with a grade that says how well it is founded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draft:
    """`grades[i]`, a small number, is what the drafter says of `tokens[i]` if all before it are right."""

    tokens: tuple[int, ...]
    grades: tuple[int, ...]


NOTHING = Draft((), ())


def count_right(draft: Sequence[int], drawn: Sequence[int]) -> int:
    """Tokens of a draft that were drawn as well: `drawn[i]` is the token for the place of `draft[i]`."""
    right = 0
    while right < min(len(draft), len(drawn)) and draft[right] == drawn[right]:
        right += 1
    return right
