"""A node whose clock is far behind follows: what the others decided is not for its clock to judge."""

from __future__ import annotations

from functools import partial

from genesis.builder import build_genesis
from genesis.dev import build_dev_spec, get_dev_identity
from node.chain.blocks import CLOCK_DRIFT_MS_MAX
from node.sim.consensus.cluster import Cluster
from node.sim.consensus.memo import remember
from node.sim.consensus.plan import BLOCK_INTERVAL_MS
from tests.simulation.test_slowest import NAMES, make_calm_plan

BEHIND_MS = CLOCK_DRIFT_MS_MAX * 3


def test_a_node_with_a_slow_clock_follows_the_others() -> None:
    plan = make_calm_plan()
    genesis = build_genesis(build_dev_spec(NAMES, block_interval_ms=BLOCK_INTERVAL_MS))
    with remember():
        cluster = Cluster(plan, genesis, tuple(get_dev_identity(name) for name in NAMES))
        cluster.start()
        cluster.schedule.after(10, partial(setattr, cluster.nodes["dave"], "jump_ms", -BEHIND_MS))
        cluster.schedule.run(60_000, lambda: cluster.has_reached(plan.heights))
        assert cluster.has_reached(plan.heights)
    assert cluster.checks.violations == []
