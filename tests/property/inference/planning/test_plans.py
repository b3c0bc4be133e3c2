"""Plans over random fleets: whole, within memory, as good as every other on small fleets, never worse with more."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.planning.cost import CostTable, compute_opening, make_cost_table
from inference.planning.fleet import Fleet
from inference.planning.plan import FleetPlan, make_plan
from inference.planning.search import search
from inference.planning.shape import ModelShape
from inference.planning.solve import FleetTooSmall, Placement, compute_value, solve
from inference.planning.workload import Objective, PlanWorkload
from tests.unit.inference.planning.drawn import draw_fleet, draw_model, draw_table, list_placements

SEEDS = st.integers(0, 1 << 32)
OBJECTIVES = st.sampled_from(list(Objective))
WORKLOAD = PlanWorkload(prompt_tokens=300, answer_tokens=100, sessions=2, chunk_rows=64)


def draw(seed: int, kinds: int, layers: int, most: int = 1) -> tuple[ModelShape, Fleet]:
    draws = random.Random(seed)
    return draw_model(draws, layers), draw_fleet(draws, kinds, layers, most)


def check(plan: FleetPlan) -> None:
    """Every layer once and in order, no machine twice, and no memory over what it may take."""
    stages = plan.stages
    assert [layer for one in stages for layer in range(one.start, one.end)] == list(range(len(plan.shape.layers)))
    assert all(one.start < one.end for one in stages)
    assert len({one.name for one in stages}) == len(stages)
    assert all(
        [one.kind for one in plan.placement].count(place) <= kind.count for place, kind in enumerate(plan.fleet.kinds)
    )
    for one in stages:
        assert one.held_bytes <= one.room_bytes <= one.kind.memory_bytes * (1 - plan.fleet.head_room)


@given(SEEDS, st.integers(1, 6), st.integers(1, 12), st.integers(1, 3), OBJECTIVES, st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_layer_has_one_machine_with_room_for_it(
    seed: int, kinds: int, layers: int, most: int, objective: Objective, is_exact: bool
) -> None:
    shape, fleet = draw(seed, kinds, layers, most)
    try:
        plan = make_plan(shape, fleet, WORKLOAD, objective, work_max=1 << 40 if is_exact else 0)
    except FleetTooSmall:
        return
    assert plan.is_exact == is_exact
    check(plan)


def search_value(table: CostTable, is_throughput: bool, cuts: int) -> float:
    """What a search of so many cuts comes to; infinite where it finds nothing."""
    try:
        return compute_value(table, search(table, is_throughput, cuts=cuts), is_throughput)
    except FleetTooSmall:
        return math.inf


def find_best(shape: ModelShape, fleet: Fleet, objective: Objective, is_brute: bool) -> tuple[float, Placement] | None:
    table = make_cost_table(shape, fleet, WORKLOAD, objective)
    is_throughput = objective is Objective.THROUGHPUT
    if is_brute:
        rated = ((compute_value(table, one, is_throughput), one) for one in list_placements(table))
        return min(rated, key=lambda one: one[0], default=None)
    try:
        found = solve(table, is_throughput)
    except FleetTooSmall:
        return None
    return compute_value(table, found, is_throughput), found


@given(SEEDS, st.integers(1, 3), st.integers(1, 6), st.integers(1, 2), OBJECTIVES)
@settings(max_examples=80, deadline=None)
def test_the_exact_plan_is_the_best_of_all_placements(
    seed: int, kinds: int, layers: int, most: int, objective: Objective
) -> None:
    shape, fleet = draw(seed, kinds, layers, most)
    wanted, found = (find_best(shape, fleet, objective, is_brute) for is_brute in (True, False))
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert found[0] == pytest.approx(wanted[0], rel=1e-9)


@given(SEEDS, st.integers(1, 3), st.integers(1, 5), st.integers(1, 2), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_best_of_any_table_is_found(seed: int, kinds: int, layers: int, most: int, is_throughput: bool) -> None:
    table = draw_table(seed, kinds, layers, most)
    wanted = min((compute_value(table, one, is_throughput) for one in list_placements(table)), default=None)
    try:
        found = compute_value(table, solve(table, is_throughput), is_throughput)
    except FleetTooSmall:
        assert wanted is None
        return
    assert found == pytest.approx(wanted, rel=1e-12)
    assert search_value(table, is_throughput, 300) >= found * (1 - 1e-12)


@given(SEEDS, st.integers(1, 4), st.integers(1, 10), OBJECTIVES, st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_one_machine_more_never_makes_the_exact_plan_worse(
    seed: int, kinds: int, layers: int, objective: Objective, place: int
) -> None:
    shape, fleet = draw(seed, kinds, layers)
    before = find_best(shape, fleet, objective, False)
    more = fleet.add_one(fleet.kinds[place % kinds])
    after = find_best(shape, more, objective, False)
    if before is not None:
        assert after is not None
        assert after[0] <= before[0] * (1 + 1e-9)


@given(SEEDS, st.integers(1, 5), st.integers(1, 12), OBJECTIVES)
@settings(max_examples=40, deadline=None)
def test_a_search_is_never_better_than_the_best_nor_worse_than_what_is_known(
    seed: int, kinds: int, layers: int, objective: Objective
) -> None:
    shape, fleet = draw(seed, kinds, layers)
    best = find_best(shape, fleet, objective, False)
    if best is None:
        return
    table, is_throughput = make_cost_table(shape, fleet, WORKLOAD, objective), objective is Objective.THROUGHPUT
    found = compute_value(table, search(table, is_throughput, [best[1]], cuts=30), is_throughput)
    assert found == pytest.approx(best[0], rel=1e-9)
    assert search_value(table, is_throughput, 30) >= best[0] * (1 - 1e-9)


@given(SEEDS, st.integers(1, 5), st.integers(1, 12), st.integers(1, 2), OBJECTIVES)
@settings(max_examples=60, deadline=None)
def test_what_is_searched_for_is_what_is_predicted(
    seed: int, kinds: int, layers: int, most: int, objective: Objective
) -> None:
    """The tables of the search and the times of the path are computed apart, and agree."""
    shape, fleet = draw(seed, kinds, layers, most)
    try:
        plan = make_plan(shape, fleet, WORKLOAD, objective)
    except FleetTooSmall:
        return
    found = plan.predict()
    predicted = {
        Objective.DECODE: found.token_s,
        Objective.THROUGHPUT: found.slowest_s,
        Objective.FIRST_TOKEN: found.first_token_s,
    }[objective]
    table = make_cost_table(shape, fleet, WORKLOAD, objective, len(plan.placement))
    value = compute_value(table, plan.placement, objective is Objective.THROUGHPUT)
    if objective is Objective.FIRST_TOKEN:  # a search waits for the answers of the two ends, a request for all
        opened = [compute_opening(fleet, fleet.kinds[one.kind]) for one in plan.placement]
        value += max(opened) - max(opened[0], opened[-1])
    assert value == pytest.approx(predicted, rel=1e-9)
