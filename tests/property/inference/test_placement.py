"""A machine takes what the network lacks most: exactly, within its memory, and so that paths come about."""

from __future__ import annotations

import dataclasses
import random
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inference.joints import UNBOUNDED, JointGraph
from inference.placement import (
    CLAIM_FACTOR_MAX,
    RATE_US,
    HeldRange,
    Machine,
    ModelBytes,
    NothingFits,
    RangeBytes,
    RangeNetwork,
    UsualRequest,
    Worth,
    choose_range,
    compute_layer_rates,
)
from inference.routing import LayerOffer, NoPathError, choose_path

LAYERS = 6
KV = 10
POSITIONS = 10
LAYER_BYTES = 1_000
RICH = 10**12


def make_model(layers: int = LAYERS, first: int = 0, last: int = 0, shared: int = 0) -> ModelBytes:
    return ModelBytes(RangeBytes((LAYER_BYTES,) * layers, first, last, shared), (KV,) * layers)


def make_machine(fits: int, layers: int = LAYERS, layer_us: int = 1_000, extra: int = 0) -> Machine:
    """One that `fits` so many layers, and `extra` bytes."""
    memory = fits * (LAYER_BYTES + KV * POSITIONS) + extra
    missing = RangeBytes((LAYER_BYTES,) * layers)
    return Machine(memory, POSITIONS, layer_us, 100, RICH, 1, 1, missing)


def hold(number: int, start: int, end: int, layer_us: int = 1_000) -> HeldRange:
    return HeldRange(number.to_bytes(32, "big"), start, end, layer_us, 0, 100, RICH)


RANGES = st.lists(
    st.tuples(st.integers(0, LAYERS - 1), st.integers(1, LAYERS), st.integers(300, 3_000)), max_size=9
).map(
    lambda rows: [
        hold(at, start, min(LAYERS, start + length), layer_us) for at, (start, length, layer_us) in enumerate(rows)
    ]
)


def has_path(held: list[HeldRange], layers: int = LAYERS) -> bool:
    try:
        choose_path(
            [LayerOffer(one.worker, one.start, one.end, 1, 1) for one in held],
            layers,
            prompt_tokens=1,
            new_tokens=1,
            max_price=1,
        )
    except NoPathError:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(held=RANGES, layer_us=st.integers(300, 3_000))
def test_the_flow_with_one_more_range_is_that_of_the_graph_with_it(held, layer_us) -> None:
    rates = compute_layer_rates(held, layer_us)
    edges = [(one.start, one.end, rate // (one.end - one.start)) for one, rate in zip(held, rates[:-1], strict=True)]
    network = RangeNetwork(make_model(), make_machine(LAYERS, layer_us=layer_us), held, UsualRequest())
    assert network.flow == JointGraph(LAYERS, edges).flow
    for start in range(LAYERS):
        for end in range(start + 1, LAYERS + 1):
            with_it = JointGraph(LAYERS, [*edges, (start, end, rates[-1] // (end - start))])
            assert network.judge(start, end).flow == with_it.flow


@settings(max_examples=150, deadline=None)
@given(held=RANGES)
def test_the_flow_is_the_least_cut(held) -> None:
    edges = [(one.start, one.end, 1_000 + one.layer_us) for one in held]
    cuts = []
    for mask in range(2 ** (LAYERS - 1)):
        near = {0, *(joint for joint in range(1, LAYERS) if mask >> (joint - 1) & 1)}
        cuts.append(sum(rate for start, end, rate in edges if start in near and end not in near))
    assert JointGraph(LAYERS, edges).flow == min(cuts)


def rank(worth: Worth) -> tuple[int, ...]:
    return (
        *(worth.workers_missing, worth.kib_missing, worth.detour),
        *(-worth.flow, -worth.relief, -worth.earnings, -worth.counted_bond),
        *(worth.bytes_missing, worth.start, worth.end),
    )


@settings(max_examples=150, deadline=None)
@given(
    held=RANGES,
    fits=st.integers(1, LAYERS),
    first=st.integers(0, 3_000),
    last=st.integers(0, 3_000),
    stored=st.sets(st.integers(0, LAYERS - 1)),
    seed=st.integers(0, 99),
)
def test_the_best_of_all_ranges_that_fit_is_chosen(held, fits, first, last, stored, seed) -> None:
    model, machine = make_model(first=first, last=last), make_machine(fits)
    missing = RangeBytes(tuple(0 if at in stored else LAYER_BYTES for at in range(LAYERS)), first, last)
    machine = dataclasses.replace(machine, missing=missing)
    network = RangeNetwork(model, machine, held, UsualRequest())
    worths = [network.judge(start, end) for start in range(LAYERS) for end in range(start + 1, LAYERS + 1)]
    fitting = [one for one in worths if one.bytes_memory <= machine.memory_bytes]
    shuffled = random.Random(seed).sample(held, len(held))
    if not fitting:
        with pytest.raises(NothingFits):
            choose_range(model, machine, shuffled)
        return
    chosen = choose_range(model, machine, shuffled)
    assert chosen == min(fitting, key=rank)
    weights = model.weights.count(chosen.start, chosen.end)
    assert chosen.bytes_memory == weights + POSITIONS * sum(model.kv[chosen.start : chosen.end])
    assert chosen.bytes_missing == missing.count(chosen.start, chosen.end)


@settings(max_examples=150, deadline=None)
@given(held=RANGES, fits=st.integers(1, LAYERS))
def test_a_choice_that_completes_a_path_does_so_for_a_client(held, fits) -> None:
    chosen = choose_range(make_model(), make_machine(fits), held)
    if chosen.is_on_path:
        assert has_path([hold(99, chosen.start, chosen.end), *held])
    if not has_path(held):
        assert chosen.is_on_path == has_path([hold(99, chosen.start, chosen.end), *held])
        gaps = RangeNetwork(make_model(), make_machine(fits), held, UsualRequest()).missing
        assert (chosen.workers_missing, chosen.kib_missing) < gaps[:2]


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30), layers=st.integers(1, 40))
def test_machines_that_join_one_by_one_cover_the_model_if_together_they_can(sizes, layers) -> None:
    assume(sum(sizes) >= layers)
    held: list[HeldRange] = []
    for number, fits in enumerate(sizes):
        if has_path(held, layers):
            break
        chosen = choose_range(make_model(layers), make_machine(fits, layers), held)
        held.append(hold(number, chosen.start, chosen.end))
    assert has_path(held, layers)


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(2, 12),
    layers=st.integers(12, 40),
    dead=st.integers(0, 11),
    extra=st.integers(0, 4),
)
def test_a_newcomer_takes_exactly_the_range_of_the_dead(count, layers, dead, extra) -> None:
    fits = -(-layers // count)
    held: list[HeldRange] = []
    while not has_path(held, layers):
        chosen = choose_range(make_model(layers), make_machine(fits, layers), held)
        held.append(hold(len(held), chosen.start, chosen.end))
    gone = held.pop(dead % len(held))
    chosen = choose_range(make_model(layers), make_machine(fits + extra, layers), held)
    assert (chosen.start, chosen.end) == (gone.start, gone.end)
    assert chosen.is_on_path


def test_the_narrowest_range_is_strengthened() -> None:
    held = [hold(0, 0, 2), hold(1, 2, 4), hold(2, 4, 6), hold(3, 0, 2), hold(4, 4, 6)]
    chosen = choose_range(make_model(), make_machine(2), held)
    assert (chosen.start, chosen.end) == (2, 4)


def test_a_range_that_no_path_uses_is_worth_nothing_though_its_layers_are_narrow() -> None:
    held = [hold(0, 0, 3), hold(1, 3, 6), hold(2, 3, 6)]
    chosen = choose_range(make_model(), make_machine(3), held)
    assert (chosen.start, chosen.end) == (0, 3)
    network = RangeNetwork(make_model(), make_machine(3), held, UsualRequest())
    assert network.judge(1, 4).flow == network.flow


def test_where_all_are_equally_narrow_the_stored_range_is_taken() -> None:
    held = [hold(0, 0, 2), hold(1, 2, 4), hold(2, 4, 6)]
    machine = make_machine(2)
    stored = dataclasses.replace(machine, missing=RangeBytes((1, 1, 1, 1, 0, 0)))
    assert choose_range(make_model(), machine, held).start == 0
    assert choose_range(make_model(), stored, held).start == 4


def test_ends_weigh_what_they_hold() -> None:
    model = make_model(first=4_400)
    chosen = [choose_range(model, make_machine(4, extra=400), [])]
    assert chosen[0].bytes_memory <= make_machine(4, extra=400).memory_bytes
    assert chosen[0].workers_missing >= 1


def test_what_a_worker_cannot_bear_does_not_count() -> None:
    whole = [hold(0, 0, 2), hold(1, 2, 4), hold(2, 4, 6)]
    machine = make_machine(2)
    for weak in (
        dataclasses.replace(whole[1], price=1_000),  # nobody would pay that
        dataclasses.replace(whole[1], gross_max=0),  # no bond
        dataclasses.replace(whole[1], kv_positions=1),  # no memory
    ):
        chosen = choose_range(make_model(), machine, [whole[0], weak, whole[2]])
        assert (chosen.start, chosen.end) == (2, 4)


def test_a_boast_keeps_nobody_off_a_range() -> None:
    boast = hold(1, 2, 4, layer_us=1)
    rates = compute_layer_rates([hold(0, 0, 2), boast, hold(2, 4, 6)], 1_000)
    assert rates == [RATE_US // 1_000, CLAIM_FACTOR_MAX * RATE_US // 1_000, RATE_US // 1_000, RATE_US // 1_000]
    assert compute_layer_rates([hold(0, 0, 2, layer_us=0)], 0)[0] == compute_layer_rates([], 0)[0]


def test_a_bond_bears_so_many_layers() -> None:
    machine = dataclasses.replace(make_machine(6), gross_max=100 * 1_024 * 2)
    assert choose_range(make_model(), machine, []).end == 2
    with pytest.raises(NothingFits, match="--bond"):
        choose_range(make_model(), dataclasses.replace(machine, gross_max=1), [])
    with pytest.raises(NothingFits, match="--memory"):
        choose_range(make_model(), dataclasses.replace(machine, memory_bytes=1), [])


def test_a_thousand_workers_of_two_hundred_layers_are_judged_within_a_tenth_of_a_second() -> None:
    layers, draw = 200, random.Random(7)
    held = []
    for number in range(1_000):
        start = draw.randrange(layers)
        held.append(hold(number, start, min(layers, start + draw.randrange(1, 40)), draw.randrange(500, 2_000)))
    machine = make_machine(60, layers)
    taken_s = []
    for _ in range(5):
        begun_s = time.thread_time()
        choose_range(make_model(layers), machine, held)
        taken_s.append(time.thread_time() - begun_s)
    assert min(taken_s) < 0.1
    assert sum(compute_layer_rates(held, 1)) < UNBOUNDED
