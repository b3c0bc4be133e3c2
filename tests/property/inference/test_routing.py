"""Paths are contiguous, affordable, and the best of all by predicted time and price, in whatever order offers come."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.path_search import PathSearch
from inference.routing import CHUNK_ROWS, LayerOffer, NoPathError, PathLoad, Prefer, choose_path
from proto_specs.limits import STAGES_MAX

LAYERS = 6
TIMES = st.integers(0, 9)
OFFERS = st.lists(
    st.builds(
        lambda start, length, prices, times: (start, start + length, *prices, *times),
        st.integers(0, LAYERS),
        st.integers(0, LAYERS),
        st.tuples(st.integers(0, 4), st.integers(0, 4)),
        st.tuples(st.integers(0, 900), TIMES, TIMES, st.integers(0, 9).map(lambda one: 2 * one)),
    ),
    max_size=9,
).map(lambda rows: [LayerOffer(bytes([at]) * 32, *row) for at, row in enumerate(rows)])
COVERED = st.builds(
    lambda offers, price, pace: [*offers, LayerOffer(b"w" * 32, 0, LAYERS, price, price, 0, pace, 3 * pace)],
    OFFERS,
    st.integers(0, 4),
    st.integers(0, 9),
)
HOPS = st.dictionaries(
    st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda two: (bytes([two[0]]) * 32, bytes([two[1]]) * 32)),
    st.integers(0, 20),
    max_size=6,
)
LOADS = st.tuples(st.sampled_from([1, 40, CHUNK_ROWS, 500]), st.integers(1, 50))
PREFERS = st.sampled_from(list(Prefer))

Path = tuple[LayerOffer, ...]


def find_all(offers: list[LayerOffer], at: int = 0) -> list[Path]:
    if at == LAYERS:
        return [()]
    steps = [one for one in offers if one.start == at and at < one.end <= LAYERS]
    return [(one, *rest) for one in steps for rest in find_all(offers, one.end)]


def predict(path: Path, prompt: int, new: int, hops: dict[tuple[bytes, bytes], int]) -> float:
    """The formula of inference/routing.py, written again."""
    first_rows = min(prompt, CHUNK_ROWS)
    time = path[0].round_trip_us / 2 + path[-1].round_trip_us / 2
    for one in path:
        time += one.wait_us + first_rows * one.prefill_us + new * one.decode_us
    time += (prompt - first_rows) * max(one.prefill_us for one in path)
    for at, one in enumerate(path):
        then = path[(at + 1) % len(path)]
        if len(path) > 1:
            time += new * hops.get((one.worker, then.worker), one.round_trip_us / 2 + then.round_trip_us / 2)
    return time


def cost(path: Path, prompt: int, new: int) -> int:
    return sum((one.end - one.start) * (prompt * one.prefill_price + new * one.decode_price) for one in path)


def pick(paths: list[Path], prompt: int, new: int, hops: dict[tuple[bytes, bytes], int], prefer: Prefer) -> Path:
    def rank(path: Path) -> Any:
        keys = tuple(one.worker for one in path)
        return cost(path, prompt, new), predict(path, prompt, new, hops), len(path), keys

    best = min(predict(path, prompt, new, hops) for path in paths)
    near = [path for path in paths if predict(path, prompt, new, hops) <= int(best) * 1_100 // 1_000]
    return min(near if prefer is Prefer.FAST else paths, key=rank)


@settings(max_examples=600, deadline=None)
@given(
    offers=OFFERS,
    max_price=st.integers(0, 4),
    avoided=st.sets(st.integers(0, 8), max_size=2),
    load=LOADS,
    hops=HOPS,
    prefer=PREFERS,
    seed=st.integers(0, 99),
)
def test_the_best_of_all_paths_is_chosen(offers, max_price, avoided, load, hops, prefer, seed) -> None:
    prompt, new = load
    avoid = {bytes([one]) * 32 for one in avoided}
    usable = [
        one for one in offers if one.worker not in avoid and max(one.prefill_price, one.decode_price) <= max_price
    ]
    paths = find_all(usable)
    shuffled = random.Random(seed).sample(offers, len(offers))

    def choose() -> Path:
        return choose_path(
            shuffled,
            LAYERS,
            prompt_tokens=prompt,
            new_tokens=new,
            max_price=max_price,
            prefer=prefer,
            avoid=avoid,
            hops=hops,
        )

    if not paths:
        with pytest.raises(NoPathError) as refused:
            choose()
        covered = {layer for one in usable if one.end <= LAYERS for layer in range(one.start, one.end)}
        missing = {layer for start, end in refused.value.missing for layer in range(start, end)}
        assert missing == set(range(LAYERS)) - covered
        dearer = [one for one in offers if one.worker not in avoid]
        tops = [max(max(one.prefill_price, one.decode_price) for one in path) for path in find_all(dearer)]
        assert refused.value.cheapest == (min(tops) if tops else None)
        return
    path = choose()
    assert path == pick(paths, prompt, new, hops, prefer)
    assert PathLoad(prompt, new, hops).predict_us(path) == predict(path, prompt, new, hops)
    assert PathLoad(prompt, new).compute_price(path) == cost(path, prompt, new)
    joints = [0, *(one.end for one in path)]
    assert all(one.start == joint for one, joint in zip(path, joints, strict=False))
    assert joints[-1] == LAYERS


@settings(max_examples=300, deadline=None)
@given(offers=COVERED, load=LOADS, hops=HOPS, prefer=PREFERS, data=st.data())
def test_a_worker_that_becomes_slower_is_not_preferred_for_it(offers, load, hops, prefer, data) -> None:
    def choose(of: list[LayerOffer]) -> Path:
        return choose_path(of, LAYERS, prompt_tokens=load[0], new_tokens=load[1], max_price=9, prefer=prefer, hops=hops)

    at = data.draw(st.integers(0, len(offers) - 1))
    name = data.draw(st.sampled_from(["wait_us", "prefill_us", "decode_us", "round_trip_us"]))
    more = 2 * data.draw(st.integers(1, 300))
    slower = dataclasses.replace(offers[at], **{name: getattr(offers[at], name) + more})
    before, after = choose(offers), choose([*offers[:at], slower, *offers[at + 1 :]])
    if offers[at] not in before and slower in after:  # the fastest path went through it: what it allows now is cheaper
        assert prefer is Prefer.FAST
        assert cost(after, *load) < cost(before, *load)


def choose_all(offers: list[LayerOffer], layers: int, prefer: Prefer = Prefer.FAST) -> Path:
    return choose_path(offers, layers, prompt_tokens=10, new_tokens=10, max_price=9, prefer=prefer)


@pytest.mark.parametrize("prefer", list(Prefer))
def test_a_path_has_so_many_stages_at_most_even_if_more_would_be_better(prefer: Prefer) -> None:
    layers = STAGES_MAX + 1
    offers = [LayerOffer(at.to_bytes(32, "big"), at, at + 1, 1, 1) for at in range(layers)]
    with pytest.raises(NoPathError, match="do not join up in 64 stages"):
        choose_all(offers, layers)
    joined = [*offers, LayerOffer(b"w" * 32, 40, 42, 9, 9, 10**6, 900, 900, 900)]
    path = choose_all(joined, layers, prefer)
    assert len(path) == STAGES_MAX
    assert joined[-1] in path
    worse = LayerOffer(b"x" * 32, 50, 53, 9, 9, 10**7, 900, 900, 900)
    assert choose_all([*joined, worse], layers, prefer) == path


def test_a_search_that_is_cut_short_still_finds_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.path_search.LABELS_MAX", 5)
    rng = random.Random(1)
    layers = STAGES_MAX + 20
    offers = []
    for at in range(layers):
        for width in (1, 2, 3):
            price, slow = rng.randint(1, 9), rng.randint(1, 99)
            offers.append(LayerOffer(rng.randbytes(32), at, min(layers, at + width), price, price, 0, slow, slow, 40))
    for prefer in Prefer:
        path = choose_all(offers, layers, prefer)
        assert path[0].start == 0
        assert path[-1].end == layers
        assert all(one.end == then.start for one, then in itertools.pairwise(path))
        assert len(path) <= STAGES_MAX


def test_a_large_network_takes_few_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.path_search.LABELS_MAX", 10**9)
    taken = 0
    extend = PathSearch._extend  # noqa: SLF001

    def count(*args: Any) -> None:
        nonlocal taken
        taken += 1
        extend(*args)

    monkeypatch.setattr(PathSearch, "_extend", count)
    rng = random.Random(2)
    offers = []
    for _ in range(1_000):
        start, speed = rng.randrange(61), rng.uniform(0.3, 3)
        end = min(61, start + rng.randint(1, 20))
        price, pace = round(5 * speed * rng.uniform(0.5, 2)), round(1_000 / speed) * (end - start)
        offers.append(LayerOffer(rng.randbytes(32), start, end, price, price, 0, pace // 10, pace, 20_000))
    for prompt, new in ((30, 100), (2_000, 300)):
        for prefer in Prefer:
            choose_path(offers, 61, prompt_tokens=prompt, new_tokens=new, max_price=99, prefer=prefer)
    assert taken < 4 * 1_000, "the bounds cut off what cannot be best"


def test_equal_paths_are_told_apart_by_their_keys() -> None:
    low, high = (
        (LayerOffer(b"a" * 32, 0, 3, 1, 1), LayerOffer(b"d" * 32, 3, 6, 1, 1)),
        LayerOffer(b"c" * 32, 2, 6, 1, 1),
    )
    early = LayerOffer(b"b" * 32, 0, 2, 1, 1)
    assert choose_all([high, early, *low], LAYERS) == low


def test_absurd_ranges_are_ignored() -> None:
    good = LayerOffer(b"g" * 32, 0, LAYERS, 1, 1)
    absurd = [LayerOffer(b"a" * 32, *ends, 0, 0) for ends in itertools.permutations((0, LAYERS + 5, -1), 2)]
    assert choose_all([*absurd, good], LAYERS) == (good,)
