"""Who is always the last to vote is a validator like any other: in the commits, paid, and not jailed as absent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from genesis.builder import build_genesis
from genesis.dev import build_dev_spec, get_dev_identity
from node.sim.consensus.cluster import Cluster
from node.sim.consensus.memo import remember
from node.sim.consensus.node import SimWorld
from node.sim.consensus.plan import BLOCK_INTERVAL_MS, Plan, make_plan

NAMES = ("alice", "bob", "charlie", "dave")
SLOW = "dave"
EPOCH_BLOCKS = 10
HEIGHTS = 24


def make_calm_plan() -> Plan:
    calm = replace(make_plan(1), heights=HEIGHTS, fault_ms=1, crashes=0, partitions=0, clock_jumps=0, skew_ms_max=0)
    return replace(calm, job_ms_max=5, byzantine=(), has_joiner=False, has_leaver=False)


def test_the_slowest_is_in_the_commits_and_stays_elected(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SimWorld.start_job

    def start_late(world: SimWorld, job: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """The others have decided long before this one has executed the block."""
        delay_ms = 40 if world._node.name == SLOW else 0  # noqa: SLF001
        world.set_timer(delay_ms, lambda: whole(world, job, then))

    monkeypatch.setattr(SimWorld, "start_job", start_late)
    spec = build_dev_spec(NAMES, block_interval_ms=BLOCK_INTERVAL_MS)
    staking = replace(spec.params.staking, epoch_blocks=EPOCH_BLOCKS)
    assert staking.downtime_permille > 0
    genesis = build_genesis(replace(spec, params=replace(spec.params, staking=staking)))
    with remember():
        cluster = Cluster(make_calm_plan(), genesis, tuple(get_dev_identity(name) for name in NAMES))
        cluster.start()
        cluster.schedule.run(60_000, lambda: cluster.has_reached(HEIGHTS))
        assert cluster.has_reached(HEIGHTS)

    store, signed, late = cluster.nodes["alice"].store, Counter[bytes](), 0
    slow = get_dev_identity(SLOW).consensus_key.public_key
    for height in range(2, HEIGHTS + 1):
        block, first = store.get_block(height), store.get_commit(height - 1)
        assert block is not None
        assert block.last_commit is not None
        assert first is not None
        signed.update(one.validator for one in block.last_commit.signatures)
        late += slow not in {one.validator for one in first.signatures}
    assert late > (HEIGHTS - 1) // 2, "it is slow: most blocks are decided without it"
    assert signed[slow] >= HEIGHTS - 3
    assert slow in {one.key for one in store.get_head().validators.members}
