"""Prompt look-up: drafts of what comes next, from what came after the same tokens before. Pure.

Whoever drafts knows no model: a draft is run through the path in one call, and what the last stage draws itself of it
counts.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from inference.drafting.draft import NOTHING, Draft

NGRAMS = (12, 6, 4, 3, 2, 1)
"""Lengths of the runs that are looked for, longest first."""
MATCH_MAX = 32
"""A match is not followed further back than this."""
_SLOTS_MIN = 1 << 8
_SLOTS_MAX = 1 << 17
"""A table's length; beyond half as many tokens, what came long ago is forgotten here and there."""

GRADES = (1, 2, 3, 4, 6, 9, 13, 20, 32)
"""A drafted token's grade is the number of these that its match reaches, less one: the more tokens before it match."""
PRIORS = (0.25, 0.5, 0.6, 0.75, 0.8, 0.9, 0.95, 0.95, 0.97)
"""How many tokens of a grade are right, measured with SmolLM2 over copied and free text, greedy and sampled."""


class PromptLookup:
    """The tokens of one request, prompt and answer, and where each run of them came last.

    Memory is bounded by `positions_max`, time per token by the number of run lengths.
    """

    def __init__(self, positions_max: int, hint: Sequence[int] = ()) -> None:
        """`positions_max`: prompt and answer. `hint`: what the answer may look like, told by whoever asks."""
        slots = min(max(_SLOTS_MIN, 2 * (positions_max + len(hint))), _SLOTS_MAX)
        self._mask = (1 << (slots - 1).bit_length()) - 1
        self._tokens = array("I")
        self._after = {count: array("I", bytes(4 * (self._mask + 1))) for count in NGRAMS}
        """Where the token after a run stands, by the run's hash; 0 is nowhere."""
        self.extend(hint)

    def extend(self, tokens: Sequence[int]) -> None:
        """Tokens that follow."""
        known, mask = self._tokens, self._mask
        for token in tokens:
            end = len(known)
            for count, after in self._after.items():
                if count <= end:
                    after[hash(tuple(known[end - count :])) & mask] = end
            known.append(token)

    def propose(self, count_max: int) -> Draft:
        """At most `count_max` tokens that followed the longest run of tokens that ends here and was there before."""
        found = self._find()
        if found is None or count_max < 1:
            return NOTHING
        start, matched = found
        known = self._tokens
        period = len(known) - start
        # What is drafted may itself be copied, where the text repeats.
        tokens = tuple(known[start + at % period] for at in range(count_max))
        return Draft(tokens, tuple(_get_grade(matched + at) for at in range(count_max)))

    def _find(self) -> tuple[int, int] | None:
        """Where the token stands that followed the longest match, and the match's length."""
        known = self._tokens
        end = len(known)
        for count, after in self._after.items():
            if count > end:
                continue
            start = after[hash(tuple(known[end - count :])) & self._mask]
            matched = 0
            while matched < min(start, MATCH_MAX) and known[start - 1 - matched] == known[end - 1 - matched]:
                matched += 1
            if matched >= count:  # else another run has the same hash
                return start, matched
        return None


def _get_grade(matched: int) -> int:
    return sum(one <= matched for one in GRADES) - 1
