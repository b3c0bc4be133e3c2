"""Drafts come from what followed the same tokens, and only what the model draws itself is taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.lookup import NGRAM, PromptLookup, count_accepted


def test_what_followed_before_is_proposed() -> None:
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 1, 2])
    assert lookup.propose(4) == []
    lookup.extend([3])
    assert lookup.propose(4) == [4, 5, 6, 1]
    assert lookup.propose(8) == [4, 5, 6, 1, 2, 3, 4, 5], "a text that repeats goes on repeating"
    lookup.extend([9, 1, 2, 3])
    assert lookup.propose(1) == [9], "what came last counts"


def test_short_texts_propose_nothing() -> None:
    for count in range(NGRAM + 1):
        assert PromptLookup([7] * count).propose(5) == []
    assert PromptLookup([7] * (NGRAM + 1)).propose(3) == [7, 7, 7]


def test_a_draft_counts_up_to_its_first_wrong_token() -> None:
    assert count_accepted([1, 2, 3], [1, 2, 4, 9]) == 2
    assert count_accepted([], [5]) == 0
    assert count_accepted([5], [5, 6]) == 1


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 10))
def test_proposals_are_what_a_search_finds(tokens: list[int], count: int) -> None:
    lookup = PromptLookup(tokens)
    last = tuple(tokens[-NGRAM:])
    found = [at for at in range(NGRAM, len(tokens)) if tuple(tokens[at - NGRAM : at]) == last]
    draft = lookup.propose(count)
    assert bool(draft) == bool(found and len(last) == NGRAM)
    if draft:
        known = (tokens + draft)[found[-1] :]
        assert draft == known[:count]
