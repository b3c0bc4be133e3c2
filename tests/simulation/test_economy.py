"""Whether it pays to deviate, on the real runtime: the sign of every deviation, and of some without their defence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.inference import conduct
from consensus.runtime.inference.committee_state import CLEAN
from node.sim.economy.compare import Baselines, Comparison, compare
from node.sim.economy.plan import EconomyPlan
from node.sim.economy.report import summarize_comparisons
from node.sim.economy.scenarios import DEVIATIONS, EconomyScenario

BUSY = EconomyPlan(epochs=10, requests=12, batch=2)
"""More statements than usual, and so more draws: a few epochs show what a deviation costs."""
RARE = (EconomyScenario.SYBIL, EconomyScenario.DOUBLE_PROMISE)
"""A few nmyl either way of what chance brings in a few epochs: tests/attacks computes the one, docs/economics.md says
where the other pays."""
LOSING = [one for one in EconomyScenario if one not in (EconomyScenario.HONEST, *RARE)]
SEED = 1
NIGHTLY_SEEDS = 12


@pytest.fixture(scope="module", name="baselines")
def fixture_baselines() -> Baselines:
    """Honest runs that the tests of this file share."""
    return Baselines()


@pytest.mark.slow
@pytest.mark.parametrize("scenario", LOSING)
def test_a_deviation_loses_money(scenario: EconomyScenario, baselines: Baselines) -> None:
    found = compare(scenario, BUSY, SEED, baselines=baselines)
    assert found.margin > 0, summarize_comparisons([found])


def test_withholding_loses_more_than_the_work_that_it_saves(baselines: Baselines) -> None:
    """What was drawn and not opened costs its gross over p: in expectation every withheld stage costs its gross."""
    found = compare(EconomyScenario.WITHHOLDING, BUSY, SEED, baselines=baselines)
    assert found.deviating.counts["WorkerCharged"] >= 3
    assert found.margin > found.honest_profit, "it is not only worse than honest work: it costs the bond"


def test_withholding_pays_without_its_charge(monkeypatch: pytest.MonkeyPatch, baselines: Baselines) -> None:
    """The rules before: a refund, and a jail after three in a row, which any pass makes forgotten."""
    monkeypatch.setattr(conduct, "compute_charge", lambda *_: 0)
    monkeypatch.setattr(conduct, "compute_odds_value", lambda *_: 0)
    monkeypatch.setattr(conduct, "note_fault", lambda worker: worker)
    monkeypatch.setattr(conduct, "compute_cleared", lambda *_: CLEAN)
    found = compare(EconomyScenario.CAUTIOUS, BUSY, SEED, baselines=baselines)
    assert found.deviating.counts["UNAVAILABLE"] >= 3
    assert found.margin < 0
    assert -found.margin > found.honest_profit // 5


def test_cheating_pays_where_nothing_is_drawn(baselines: Baselines) -> None:
    """The least that a vote may set, and bonds without a relation to what is at stake."""
    never = (("inference.base_challenge_ppm", 100), ("inference.exposure_factor", 1), ("inference.probation_value", 0))
    plan = replace(BUSY, changes=never, bond=1_000_000 * 10**9 // 2)
    found = compare(EconomyScenario.CHEATING, plan, SEED, baselines=baselines)
    assert found.deviating.counts.get("FAIL", 0) == 0
    assert found.margin < 0


def test_a_lazy_verifier_earns_less_than_one_that_computes(baselines: Baselines) -> None:
    found = compare(EconomyScenario.LAZY_VERIFIER, BUSY, SEED, baselines=baselines)
    assert found.deviating.counts["VerifierMissed"] >= 10
    assert found.margin > 0


@pytest.mark.nightly
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("scenario", LOSING)
def test_every_deviation_loses_over_many_seeds(scenario: EconomyScenario) -> None:
    """At the usual strength, with the margin beyond chance."""
    found: list[Comparison] = [compare(scenario, EconomyPlan(), seed) for seed in range(NIGHTLY_SEEDS)]
    result: dict[str, Any] = summarize_comparisons(found)
    assert result["margin"] > 2 * result["error"], result


@pytest.mark.nightly
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("scenario", [EconomyScenario.CHEATING, EconomyScenario.LAZY, EconomyScenario.WITHHOLDING])
def test_no_strength_of_it_pays(scenario: EconomyScenario) -> None:
    baselines = Baselines()
    for strength in DEVIATIONS[scenario].strengths:
        found = [compare(scenario, EconomyPlan(), seed, strength, baselines) for seed in range(NIGHTLY_SEEDS)]
        result = summarize_comparisons(found)
        assert not result["pays"], result


@pytest.mark.slow
def test_one_promise_to_two_paths_brings_nothing_and_to_four_still_pays(baselines: Baselines) -> None:
    """What is open (docs/economics.md): a bond answers for all promises of a session once."""
    for paths, is_open in ((2, False), (4, True)):
        found = compare(EconomyScenario.DOUBLE_PROMISE, BUSY, SEED, paths, baselines)
        assert found.deviating.counts["ClientConvicted"] >= 5
        assert (found.margin < 0) == is_open
