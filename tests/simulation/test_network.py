"""A thousand workers for a quarter of an hour, a tenth of which leaves every hour: what the project promises of it."""

from __future__ import annotations

import pytest

from node.sim.network.report import merge_outcomes
from node.sim.network.run import simulate_network
from node.sim.network.world import Scenario, make_plan


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_a_thousand_workers_under_churn() -> None:
    result = merge_outcomes([simulate_network(0, make_plan(Scenario.CHURN, 1_000, 15))])
    assert result["violations"] == []
    assert result["complete_share"] >= 0.999
    assert result["pause_s"]["p95"] <= 5.0
    assert result["survivor_bytes"] == 0
    assert result["uncovered_layer_s"] == 0
