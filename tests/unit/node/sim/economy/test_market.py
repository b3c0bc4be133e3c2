"""The simulated market on the real runtime: money is conserved, runs repeat, and honest actors do what they should."""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.inference import state as inference
from node.sim.economy.compare import compare, run_market
from node.sim.economy.market import Market
from node.sim.economy.plan import EconomyPlan
from node.sim.economy.scenarios import EconomyScenario
from tests.unit.consensus.runtime.chain import check_invariants

SHORT = EconomyPlan(epochs=2, requests=4, validators=4, workers_per_stage=2)


def test_an_honest_market_fails_nobody_and_conserves_money() -> None:
    market = Market(SHORT, 1)
    market.warm_up()
    market.run()
    check_invariants(market.ledger.state)
    assert market.ledger.failures == {}
    assert market.ledger.pending == []
    assert market.ledger.dropped == 0
    assert market.requests >= SHORT.blocks * SHORT.requests
    for worker in market.workers:
        found = market.read_worker(worker)
        assert (found.fails, found.unavailable, found.open_stages) == (0, 0, 0)
        assert found.proven >= market.read_inference_params().probation_value
    assert not list(inference.silences.iterate(market.ledger.state))


def test_the_same_seed_is_the_same_run_and_another_one_is_not() -> None:
    first, again, other = (run_market(SHORT, seed) for seed in (3, 3, 4))
    assert first == again
    assert first.profits != other.profits


def test_an_honest_deviation_is_none() -> None:
    found = compare(EconomyScenario.HONEST, SHORT, 5)
    assert found.honest == found.deviating
    assert (found.margin, found.harm) == (0, 0)


def test_a_deviation_leaves_the_others_requests_as_they_are() -> None:
    """Both runs serve the same requests, so what differs is what the tempted one did."""
    often = replace(SHORT, workers_per_stage=4, changes=(("inference.base_challenge_ppm", 500_000),))
    found = compare(EconomyScenario.LAZY, often, 6, 1_000)
    assert found.honest.served == found.deviating.served
    assert found.deviating.counts.get("FAIL", 0) >= 1
    assert found.margin > 0
