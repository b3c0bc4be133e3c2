"""Prompt look-up: drafts of what comes next, from what came after the same tokens before. Pure.

A draft is run through the model in one call, and what the model itself would have drawn of it counts: a wrong one costs
its rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAM = 3
"""Tokens that must have come before. Fewer match by chance, and a wrong draft costs its rows."""


class PromptLookup:
    """The tokens of one request, prompt and answer, and where each run of NGRAM tokens was followed by something."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Tokens that follow."""
        for token in tokens:
            if len(self._tokens) >= NGRAM:
                self._after[tuple(self._tokens[-NGRAM:])] = len(self._tokens)
            self._tokens.append(token)

    def propose(self, count_max: int) -> list[int]:
        """At most `count_max` tokens that followed the last NGRAM ones when those came last; none if they never did."""
        start = self._after.get(tuple(self._tokens[-NGRAM:]))
        if start is None:
            return []
        draft: list[int] = []
        while len(draft) < count_max:  # what is drafted may itself be copied, where the text repeats
            place = start + len(draft)
            draft.append(self._tokens[place] if place < len(self._tokens) else draft[place - len(self._tokens)])
        return draft


def count_accepted(draft: Sequence[int], drawn: Sequence[int]) -> int:
    """Tokens of a draft that the model draws as well: `drawn[i]` is its token for the place of `draft[i]`."""
    accepted = 0
    while accepted < len(draft) and draft[accepted] == drawn[accepted]:
        accepted += 1
    return accepted
