"""No position of a deposit is promised twice, and no more than the chain will pay."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from node.client.escrow_session import EscrowSession, EscrowSlice

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 400)),
        st.tuples(st.just("end"), st.integers(0, 99), st.booleans(), st.integers(0, 400)),
        st.tuples(st.just("top_up"), st.integers(1, 1000)),
        st.tuples(st.just("stale"), st.integers(0, 500)),
    ),
    max_size=80,
)


@given(st.integers(1, 2000), st.integers(1, 40), ACTS)
def test_slices_never_overlap_and_stay_within_what_the_chain_shows(deposit: int, requests_max: int, acts: list) -> None:
    """`stale` is an old view of the chain, as an RPC answer that was overtaken."""
    book = EscrowSession(deposit, requests_max)
    promisable, taken, running = deposit, [], []
    for act, *values in acts:
        if act == "take":
            found = book.take(values[0])
            fits = values[0] <= promisable - (taken[-1].end if taken else 0)
            if found is None:
                assert not fits or book.requests_left == 0
                continue
            assert fits
            taken.append(found)
            running.append(found)
        elif act == "end" and running:
            ended: EscrowSlice = running.pop(values[0] % len(running))
            book.end(ended.sequence, is_vouched=values[1])
            if values[1]:
                promisable += ended.price_max - min(values[2], ended.price_max)
                book.observe(promisable)
        elif act == "top_up":
            promisable += values[0]
            book.observe(promisable)
        elif act == "stale":
            book.observe(min(values[0], promisable))
        assert 0 <= book.unpromised <= promisable
        assert 0 <= book.requests_left <= requests_max
    assert [one.sequence for one in taken] == list(range(len(taken)))
    assert all(before.end == after.start for before, after in pairwise(taken))
    assert not taken or taken[0].start == 0
    assert not taken or taken[-1].end <= promisable


def test_what_fails_without_a_voucher_is_dead_and_takes_no_place() -> None:
    book = EscrowSession(100, 2)
    first, second = book.take(40), book.take(40)
    assert first is not None
    assert second is not None
    assert book.take(10) is None, "two requests at most"
    book.end(first.sequence, is_vouched=False)
    assert (book.dead, book.unpromised, book.requests_left) == (40, 20, 1)
    third = book.take(20)
    assert third is not None
    assert (third.start, third.end, third.sequence) == (80, 100, 2)
