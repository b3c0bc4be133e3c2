"""How many tokens of a draft are worth their rows: those with which a call gives the most tokens per second. Pure.

For each grade the policy knows how often its tokens were right lately. A call with k drafted rows gives one token, and
one more for each drafted token that is right together with all before it. It learns from every draft, whether it was
sent or not: what would have been right shows in the tokens that come back, so no row is spent on finding out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

from inference.drafting.costs import CallCosts
from inference.drafting.draft import Draft, count_right
from proto_specs.limits import DRAFT_TOKENS_MAX

DRAFT_MAX = DRAFT_TOKENS_MAX
"""Drafted rows of a call: with the one that is sure they are a window, which a call does not leave."""
GAIN_MIN = 1.03
"""A draft is sent when it makes at least so many times the tokens per second: estimates are not that good."""
SURE_TOKENS = 8.0
"""A draft that is expected to give so many tokens is sent before it is known what calls take."""
_PRIOR_TRIES = 4.0
_DECAY = 0.95
"""By token of a grade: some twenty count."""


class DraftPolicy:
    """What one request's drafts of one drafter were worth so far."""

    def __init__(self, priors: Sequence[float]) -> None:
        """`priors`: the share of right tokens of each grade, before any was seen."""
        self._right = [_PRIOR_TRIES * one for one in priors]
        self._tries = [_PRIOR_TRIES] * len(priors)

    def estimate(self, grade: int) -> float:
        """The chance that a token of this grade is right when all before it are."""
        return self._right[grade] / self._tries[grade]

    def choose(self, draft: Draft, costs: CallCosts) -> int:
        """How many of the draft's first tokens to send."""
        expected = self._expect_tokens(draft)
        if costs.is_poor_guess or (costs.is_guess and expected[-1] < SURE_TOKENS):
            return 0
        best, best_rate = 0, GAIN_MIN / costs.compute(0)
        for count, tokens in enumerate(expected):
            rate = tokens / costs.compute(count)
            if rate > best_rate:
                best, best_rate = count, rate
        return best

    def count_expected(self, draft: Draft, count: int) -> float:
        """Tokens that a call with the draft's first `count` tokens is expected to give."""
        return self._expect_tokens(draft)[count]

    def compute_rate(self, draft: Draft, count: int, costs: CallCosts) -> float:
        """Tokens per second that a call with the draft's first `count` tokens is expected to give."""
        return self.count_expected(draft, count) / costs.compute(count)

    def _expect_tokens(self, draft: Draft) -> list[float]:
        """Tokens that a call gives, by how many of the draft's are sent."""
        chances = accumulate(map(self.estimate, draft.grades[:DRAFT_MAX]), mul)
        return list(accumulate(chances, initial=1.0))

    def observe(self, draft: Draft, drawn: Sequence[int]) -> None:
        """A whole draft, however much of it was sent, and the tokens that came where it began."""
        right = count_right(draft.tokens, drawn)
        for grade in draft.grades[:right]:
            self._count(grade, 1.0)
        if right < min(len(draft.tokens), len(drawn)):
            self._count(draft.grades[right], 0.0)

    def _count(self, grade: int, right: float) -> None:
        self._right[grade] = self._right[grade] * _DECAY + right
        self._tries[grade] = self._tries[grade] * _DECAY + 1.0
