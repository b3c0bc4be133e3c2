"""Used sequence numbers are a set, kept in as few chunks as hold them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.runtime.inference import sequences
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import SequenceUsed
from consensus.runtime.inference.state import SEQUENCES_CHUNK
from consensus.state.overlay import Overlay
from consensus.state.reader import DictState
from inference.serving.statements import join_spans
from proto_specs.limits import SESSION_SEQUENCES_MAX
from proto_specs.types.statement import Span

SESSION, OTHER = b"s" * 32, b"t" * 32
NUMBER = st.one_of(
    st.integers(0, 40),
    st.integers(SEQUENCES_CHUNK - 20, SEQUENCES_CHUNK + 20),
    st.integers(SESSION_SEQUENCES_MAX - 20, SESSION_SEQUENCES_MAX - 1),
)
RUN = st.tuples(NUMBER, st.sampled_from([1, 2, 30, SEQUENCES_CHUNK, 3 * SEQUENCES_CHUNK]))


def make_spans(runs: list[tuple[int, int]]) -> tuple[Span, ...]:
    numbers = {number for start, count in runs for number in range(start, start + count)}
    return join_spans([Span(one, one + 1) for one in sorted(numbers) if one < SESSION_SEQUENCES_MAX])


@given(st.lists(st.lists(RUN, min_size=1, max_size=4), max_size=5))
def test_numbers_are_used_once(batches: list[list[tuple[int, int]]]) -> None:
    state, used = Overlay(DictState({})), set[int]()
    for runs in batches:
        spans = make_spans(runs)
        numbers = {number for one in spans for number in range(one.start, one.end)}
        assert sequences.count_chunks(spans) == len({one // SEQUENCES_CHUNK for one in numbers})
        if used & numbers:
            with pytest.raises(SequenceUsed, match=f"request {min(used & numbers)} of"):
                sequences.check_unused(state, SESSION, spans)
            continue
        sequences.check_unused(state, SESSION, spans)
        sequences.mark_used(state, SESSION, spans)
        used |= numbers
        edges = {one + by for span in spans for one in (span.start, span.end) for by in (-1, 0)} - {-1}
        assert {one for one in edges if sequences.is_used(state, SESSION, one)} == used & edges
        assert not any(sequences.is_used(state, OTHER, one) for one in edges)
    chunks = [key[1] for key, _ in inference.sequences_used.iterate(state, SESSION)]
    assert chunks == sorted({one // SEQUENCES_CHUNK for one in used})
    assert len(chunks) <= SESSION_SEQUENCES_MAX // SEQUENCES_CHUNK
