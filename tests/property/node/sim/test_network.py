"""Whatever befalls a small network: what must hold of routes and moves does, and nothing is counted twice or lost."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from node.sim.network.events import run_virtually
from node.sim.network.run import SimulatedNetwork
from node.sim.network.world import Scenario, make_plan


@given(
    seed=st.integers(0, 10**6),
    scenario=st.sampled_from(list(Scenario)),
    leave_permille=st.sampled_from([0, 1_000, 6_000]),
)
@settings(max_examples=8, deadline=None)
def test_small_networks(seed: int, scenario: Scenario, leave_permille: int) -> None:
    plan = replace(make_plan(scenario, 20, 10), requests_per_s=0.04, leave_permille=leave_permille)
    network = SimulatedNetwork(seed, plan)
    run_virtually(network.virtual, network.run)
    tally = network.tally
    failed = sum(count for what, count in tally.counts.items() if what.startswith("failed"))
    assert not tally.violations
    assert tally.complete + failed <= tally.requests
    assert tally.orders >= tally.complete
    assert tally.wasted_rows <= tally.replayed_rows
    assert len(tally.paces) <= tally.complete <= len(tally.firsts_s)
    for worker in network.workers.values():
        assert worker.kv_used == sum(one.positions for one in worker.kv.values())
        assert 0 <= worker.kv_used <= worker.rig.kv_positions + 2_048, "an adopted request may have grown"
    if not leave_permille and not plan.outage_every_s:
        assert not tally.pauses_s or "false alarm" in " ".join(tally.counts)
