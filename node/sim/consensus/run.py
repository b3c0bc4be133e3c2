"""A simulation from its seed, and its outcome."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from genesis.builder import Genesis, build_genesis
from genesis.dev import DEV_NAMES, DevIdentity, build_dev_spec, get_dev_identity
from node.sim.consensus.cluster import Cluster
from node.sim.consensus.memo import remember
from node.sim.consensus.plan import BLOCK_INTERVAL_MS, LIVENESS_MS, Plan, make_plan


@dataclass(frozen=True, slots=True)
class SeedOutcome:
    """The outcome of a seed. `counts` shows what happened, so that a reader sees that the faults were real."""

    plan: Plan
    violations: tuple[str, ...]
    counts: Counter[str]
    virtual_ms: int
    fingerprint: str
    """The last block's hash of every node and the time: equal for every run of the seed."""


Plant = Callable[[], AbstractContextManager[None]]
"""A context around a simulation that changes the code under it, to prove that the checks notice."""


def simulate(seed: int, validators: int, heights: int, plant: Plant = nullcontext) -> SeedOutcome:
    """Run a seed to its end, inside `plant`."""
    plan = make_plan(seed, validators, heights)
    with plant(), remember():
        return run_plan(plan)


def run_plan(plan: Plan) -> SeedOutcome:
    """Run through faults, healing, and the time left to reach the height; then check the chains."""
    genesis, identities = _make_chain(plan.validators)
    cluster = Cluster(plan, genesis, identities if plan.has_joiner else identities[: plan.validators])
    cluster.start()
    deadline_ms = plan.fault_ms + LIVENESS_MS
    try:
        cluster.schedule.run(deadline_ms, lambda: cluster.has_reached(plan.heights))
    except Exception as error:  # any exception of a node is a finding
        cluster.checks.fail(f"a node failed: {type(error).__name__}: {error}")
    if not cluster.has_reached(plan.heights) and not cluster.checks.violations:
        heights = {node.name: node.store.get_head().height if node.is_up else "down" for node in cluster.honest}
        cluster.checks.fail(f"no progress: {heights} of {plan.heights}, {LIVENESS_MS} ms after healing")
    honest = [node.key.public_key for node in cluster.honest]
    for node in cluster.honest:
        if node.is_up:
            cluster.checks.check_chain(node, honest)
    counts = cluster.counts + cluster.network.counts
    counts["changes of the set"] = cluster.count_changes()
    for node in cluster.nodes.values():
        counts.update({f"write: {kind}": count for kind, count in node.disk.writes.items()})
        if node.liar is not None:
            counts[f"byzantine: {node.liar.behaviour.value}"] += 1
    heads = " ".join(
        node.store.get_head().block_hash.hex()[:16] if node.is_up else "down" for node in cluster.nodes.values()
    )
    return SeedOutcome(
        plan, tuple(cluster.checks.violations), counts, cluster.schedule.now_ms, f"{heads} {cluster.schedule.now_ms}"
    )


@functools.cache
def _make_chain(validators: int) -> tuple[Genesis, tuple[DevIdentity, ...]]:
    """A development chain that jails no validator for the simulation's faults, and its validators with the joiner."""
    names = tuple(f"validator-{number}" for number in range(validators + 1))
    spec = build_dev_spec(names[:-1], block_interval_ms=BLOCK_INTERVAL_MS, names=(*DEV_NAMES, names[-1]))
    staking = replace(spec.params.staking, downtime_permille=0, epoch_blocks=5)
    spec = replace(spec, params=replace(spec.params, staking=staking))
    return build_genesis(spec), tuple(get_dev_identity(name) for name in names)
