"""Paths are contiguous, affordable, of the fewest stages, then cheapest, whatever the order of the offers."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.routing import LayerOffer, NoPathError, choose_path
from proto_specs.limits import STAGES_MAX

LAYERS = 6
OFFERS = st.lists(
    st.builds(
        lambda start, length, prefill, decode: (start, start + length, prefill, decode),
        st.integers(0, LAYERS),
        st.integers(0, LAYERS),
        st.integers(0, 4),
        st.integers(0, 4),
    ),
    max_size=9,
).map(lambda rows: [LayerOffer(bytes([at]) * 32, *row) for at, row in enumerate(rows)])


def find_all(offers: list[LayerOffer], at: int = 0) -> list[tuple[LayerOffer, ...]]:
    if at == LAYERS:
        return [()]
    steps = [one for one in offers if one.start == at and at < one.end <= LAYERS]
    return [(one, *rest) for one in steps for rest in find_all(offers, one.end)]


def rank(path: tuple[LayerOffer, ...]) -> tuple[int, int, tuple[bytes, ...]]:
    price = sum((one.end - one.start) * (one.prefill_price + one.decode_price) for one in path)
    return len(path), price, tuple(one.worker for one in path)


@settings(max_examples=300, deadline=None)
@given(
    offers=OFFERS, max_price=st.integers(0, 4), avoided=st.sets(st.integers(0, 8), max_size=2), seed=st.integers(0, 99)
)
def test_the_best_of_all_paths_is_chosen(offers, max_price, avoided, seed) -> None:
    avoid = {bytes([one]) * 32 for one in avoided}
    usable = [
        one for one in offers if one.worker not in avoid and max(one.prefill_price, one.decode_price) <= max_price
    ]
    paths = find_all(usable)
    shuffled = random.Random(seed).sample(offers, len(offers))
    if not paths:
        with pytest.raises(NoPathError) as refused:
            choose_path(shuffled, LAYERS, max_price, avoid)
        covered = {layer for one in usable if one.end <= LAYERS for layer in range(one.start, one.end)}
        missing = {layer for start, end in refused.value.missing for layer in range(start, end)}
        assert missing == set(range(LAYERS)) - covered
        return
    path = choose_path(shuffled, LAYERS, max_price, avoid)
    assert path == min(paths, key=rank)
    joints = [0, *(one.end for one in path)]
    assert all(one.start == joint for one, joint in zip(path, joints, strict=False))
    assert joints[-1] == LAYERS


def test_more_stages_than_a_path_may_have_are_no_path() -> None:
    layers = STAGES_MAX + 1
    offers = [LayerOffer(at.to_bytes(32, "big"), at, at + 1, 1, 1) for at in range(layers)]
    with pytest.raises(NoPathError, match="do not join up in 64 stages"):
        choose_path(offers, layers, 1)
    joined = [*offers, LayerOffer(b"w" * 32, 0, 2, 1, 1)]
    assert len(choose_path(joined, layers, 1)) == STAGES_MAX


def test_equal_paths_are_told_apart_by_their_keys() -> None:
    low, high = (
        (LayerOffer(b"a" * 32, 0, 3, 1, 1), LayerOffer(b"d" * 32, 3, 6, 1, 1)),
        LayerOffer(b"c" * 32, 2, 6, 1, 1),
    )
    early = LayerOffer(b"b" * 32, 0, 2, 1, 1)
    assert choose_path([high, early, *low], LAYERS, 1) == low


def test_absurd_ranges_are_ignored() -> None:
    good = LayerOffer(b"g" * 32, 0, LAYERS, 1, 1)
    absurd = [LayerOffer(b"a" * 32, *ends, 0, 0) for ends in itertools.permutations((0, LAYERS + 5, -1), 2)]
    assert choose_path([*absurd, good], LAYERS, 1) == (good,)
