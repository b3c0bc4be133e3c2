"""Small networks: the same seed gives the same bytes, and what must hold does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from node.client.routes import Route
from node.sim.network import run
from node.sim.network.checks import RouteChecks, has_way
from node.sim.network.coarse import simulate_coarsely
from node.sim.network.events import run_virtually
from node.sim.network.report import compare_models, format_comparison, format_table, measure_spread, merge_outcomes
from node.sim.network.run import SimulatedNetwork, simulate_network
from node.sim.network.workers import WorkerState
from node.sim.network.world import Scenario, WorldPlan, make_plan

SMALL = replace(make_plan(Scenario.CHURN, 20, 10), requests_per_s=0.05)


def report(seed: int, plan: WorldPlan) -> str:
    return json.dumps(merge_outcomes([simulate_network(seed, plan)]))


def test_a_seed_gives_the_same_bytes() -> None:
    stormy = replace(SMALL, leave_permille=3_000)
    assert report(3, stormy) == report(3, stormy)
    assert report(3, stormy) != report(4, stormy)


def test_who_is_left_alone_answers_everything() -> None:
    result = merge_outcomes([simulate_network(1, replace(SMALL, leave_permille=0))])
    assert result["requests"] == result["complete"] > 10
    assert result["pause_s"]["count"] == result["replayed_positions"] == result["survivor_bytes"] == 0
    assert result["counts"].get("moves", 0) == 0
    assert len(format_table(result)) == 12


@pytest.mark.parametrize("state", [WorkerState.DEAD, WorkerState.SILENT, WorkerState.STUCK])
def test_an_answer_survives_the_loss_of_a_stage(state: WorkerState) -> None:
    network = SimulatedNetwork(5, replace(SMALL, workers=30, leave_permille=0, requests_per_s=0.02))
    struck = []

    def strike() -> None:
        for worker in network.workers.values():
            for order, stage in list(worker.orders.items()):
                if order.is_accepted and len(order.stages) > 1 and not struck:
                    struck.append(worker)
                    network.churn.let_fall(worker, state)
                    return
        network.virtual.after(1.0, strike)

    network.virtual.after(120.0, strike)
    run_virtually(network.virtual, network.run)
    tally = network.tally
    assert struck
    assert tally.complete == tally.requests
    assert tally.replayed_rows + len(tally.firsts_s) > 0
    assert all(pause < 8.0 for pause in tally.pauses_s)
    assert not tally.violations
    assert tally.survivor_bytes == 0


def test_a_route_over_the_dead_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second opinion that never objects is worth nothing: plant what it is there to find."""
    network = SimulatedNetwork(2, replace(SMALL, leave_permille=0))
    real = RouteChecks.check

    def check(self: RouteChecks, gateway, ask, route: Route, excluded, kept) -> None:  # type: ignore[no-untyped-def]
        gateway.memory.note_failed(route.workers[0].worker, network.virtual.now_s)
        real(self, gateway, ask, route, excluded, kept)

    monkeypatch.setattr(run.RouteChecks, "check", check)
    run_virtually(network.virtual, network.run)
    assert network.tally.violations


def test_more_moves_than_allowed_are_a_violation() -> None:
    network = SimulatedNetwork(2, SMALL)
    network.placing.most_moves = lambda: 2  # type: ignore[method-assign]
    run_virtually(network.virtual, network.run)
    assert any("moved 2 times" in one for one in network.tally.violations)


def test_ranges_that_join_up_are_a_way() -> None:
    network = SimulatedNetwork(1, SMALL)
    run_virtually(network.virtual, lambda: [network.placing.add_first(*one) for one in network.newcomers])
    entries = network.chain.list_now()
    assert has_way(entries)
    assert not has_way([one for one in entries if one.start])


def test_the_coarse_model_gives_the_same_bytes_and_compares() -> None:
    plan = replace(make_plan(Scenario.CHURN, 40, 10), requests_per_s=0.05)
    one, other = (merge_outcomes([simulate_coarsely(2, plan)]) for _ in range(2))
    assert one == other
    assert one["complete"] > 0
    comparison = compare_models(one, other)
    assert comparison["figures"]["complete_share"]["ratio"] == 1.0
    assert len(format_comparison(comparison)) == 10


def test_percentiles_are_by_the_nearest_rank() -> None:
    assert measure_spread([]) == {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
    assert measure_spread([float(one) for one in range(1, 101)])["p95"] == 96.0
