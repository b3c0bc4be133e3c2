"""Drafts come from what followed the longest run of tokens that was there before, and memory is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.drafting import lookup as module
from inference.drafting.draft import NOTHING, count_right
from inference.drafting.lookup import GRADES, MATCH_MAX, NGRAMS, PRIORS, PromptLookup


def make(tokens: list[int], hint: tuple[int, ...] = ()) -> PromptLookup:
    lookup = PromptLookup(1_000, hint)
    lookup.extend(tokens)
    return lookup


def test_what_followed_before_is_proposed() -> None:
    lookup = make([1, 2, 3, 4, 5, 6, 1, 2])
    assert lookup.propose(4).tokens == (3, 4, 5, 6)
    lookup.extend([3])
    assert lookup.propose(4).tokens == (4, 5, 6, 1)
    assert lookup.propose(8).tokens == (4, 5, 6, 1, 2, 3, 4, 5), "a text that repeats goes on repeating"
    lookup.extend([9, 1, 2, 3])
    assert lookup.propose(1).tokens == (9,), "what came last counts"
    lookup.extend([4, 5])
    assert lookup.propose(1).tokens == (6,), "but the longest match counts more"


def test_nothing_follows_what_was_never_there() -> None:
    assert make([]).propose(5) == NOTHING
    assert make([7]).propose(5) == NOTHING
    assert make([7, 8, 9]).propose(5) == NOTHING
    assert make([7, 7]).propose(3).tokens == (7, 7, 7)
    assert make([7, 7]).propose(0) == NOTHING


def test_a_hint_is_text_as_if_it_came_before() -> None:
    assert make([50, 1, 2], hint=(1, 2, 3, 4)).propose(2).tokens == (3, 4)


def test_grades_grow_with_the_match_and_with_the_draft() -> None:
    draft = make([*range(100, 160), *range(100, 104)]).propose(31)
    assert draft.tokens == tuple(range(104, 135))
    assert [GRADES[one] for one in draft.grades] == [4] * 2 + [6] * 3 + [9] * 4 + [13] * 7 + [20] * 12 + [32] * 3
    assert len(GRADES) == len(PRIORS)
    assert list(PRIORS) == sorted(PRIORS)


def test_a_draft_counts_up_to_its_first_wrong_token() -> None:
    assert count_right([1, 2, 3], [1, 2, 4, 9]) == 2
    assert count_right([], [5]) == 0
    assert count_right([5], [5, 6]) == 1
    assert count_right([5, 6], [5]) == 1


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 10))
@settings(derandomize=True)  # of some texts two runs share a place in the table, and the later one has it
def test_proposals_are_what_a_search_finds(tokens: list[int], count: int) -> None:
    draft = make(tokens).propose(count)
    end = len(tokens)
    for length in NGRAMS:
        last = tokens[end - length :]
        found = [at for at in range(length, end) if length <= end and tokens[at - length : at] == last]
        if found:
            assert draft.tokens == tuple((tokens + list(draft.tokens))[found[-1] :][:count])
            matched = length
            while matched < MATCH_MAX and matched < found[-1] and tokens[found[-1] - 1 - matched] == tokens[~matched]:
                matched += 1
            assert draft.grades == tuple(sum(one <= matched + at for one in GRADES) - 1 for at in range(count))
            return
    assert draft == NOTHING


@given(st.lists(st.integers(0, 2), min_size=30, max_size=300), st.integers(1, 40))
def test_pieces_are_the_whole(tokens: list[int], piece: int) -> None:
    lookup = make([])
    for start in range(0, len(tokens), piece):
        lookup.extend(tokens[start : start + piece])
    assert lookup.propose(9) == make(tokens).propose(9)


def test_more_tokens_than_were_announced_forget_and_never_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with what an order claims, and a run with another's hash is no match."""
    monkeypatch.setattr(module, "_SLOTS_MAX", 256)
    lookup = PromptLookup(1 << 40)
    tokens = [one * one % 9_973 for one in range(5_000)]
    right = 0
    for at, token in enumerate(tokens):
        draft = lookup.propose(1)
        right += bool(draft.tokens) and draft.tokens[0] in tokens[:at]
        assert not draft.tokens or draft.tokens[0] in tokens[:at]
        lookup.extend([token])
    lookup.extend(tokens[-40:])
    assert lookup.propose(1) != NOTHING
