"""Emission for workers follows what paid work burned, and buying one's own work loses more than it brings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.runtime.balances.state import read_account, read_issuance
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import FeeBurned, StagePaid, VerifierPaid, WorkersRewarded
from consensus.runtime.staking.emission import CLAIM_PERMILLE, compute_worker_rewards
from consensus.runtime.staking.events import EpochEnded
from proto_specs.types.calls import Outcome
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.inference_world import World

PLENTY = 10 * NMYL_PER_MYL


def test_the_example_of_the_spec() -> None:
    assert compute_worker_rewards(4 * NMYL_PER_MYL, [12_000, 2_000]) == [6_000, 1_000]
    assert compute_worker_rewards(5_001, [12_000, 2_000]) == [4_287, 714]


@given(part=st.integers(0, 10**15), burned=st.lists(st.integers(0, 10**13), max_size=8))
def test_rewards_are_exact_and_bounded_by_the_claims(part: int, burned: list[int]) -> None:
    rewards = compute_worker_rewards(part, burned)
    claims = [one * CLAIM_PERMILLE // 1000 for one in burned]
    assert sum(rewards) == min(part, sum(claims))
    assert all(0 <= reward <= claim for reward, claim in zip(rewards, claims, strict=True))


def run(world: World, outcomes: list[Outcome]) -> list[Any]:
    """One request, its three stages judged in turn, then on to the end of the epoch: all events since."""
    events: list[Any] = []
    for challenge, outcome in zip(world.settle_and_draw(world.settle()), outcomes, strict=True):
        events += world.judge(challenge.challenge, world.verifiers[0], outcome).events
    while not any(isinstance(one, EpochEnded) for one in events):
        events += world.chain.skip(1)
    return events


def to_epoch_start(world: World) -> None:
    while world.chain.height % world.chain.spec.params.staking.epoch_blocks:
        world.chain.skip(1)


def pick(events: list[Any], kind: type[Any]) -> list[Any]:
    return [one for one in events if isinstance(one, kind)]


def test_what_paid_work_burned_is_half_minted_to_its_operators() -> None:
    world = World(emission_per_epoch=PLENTY)
    to_epoch_start(world)
    events = run(world, [Outcome.PASS] * 3)
    burned = {one.stage: one.amount for one in pick(events, FeeBurned)}
    rewarded = {one.operator: (one.amount, one.burned) for one in pick(events, WorkersRewarded)}
    assert rewarded == {
        worker.account: (burned[index] // 2, burned[index]) for index, worker in enumerate(world.workers)
    }
    assert not list(inference.burned_in_epoch.iterate(world.chain.state)), "claims end with their epoch"


def test_refunded_and_slashed_work_claims_nothing() -> None:
    world = World(emission_per_epoch=PLENTY)
    to_epoch_start(world)
    events = run(world, [Outcome.PASS, Outcome.FAIL, Outcome.UNAVAILABLE])
    assert [one.operator for one in pick(events, WorkersRewarded)] == [world.workers[0].account]


@pytest.mark.parametrize("emission", [0, 1_000, 20_000, PLENTY])
def test_attack_who_buys_his_own_work_loses(emission: int) -> None:
    """Client and workers are one, and the verifier's share comes back to him too: the most anybody can arrange."""
    world = World(emission_per_epoch=emission)
    to_epoch_start(world)
    coalition = [world.client, *world.workers]

    def wealth() -> int:
        accounts = [read_account(world.chain.state, one.account) for one in coalition]
        return sum(one.free + one.reserved for one in accounts)

    before = wealth()
    events = run(world, [Outcome.PASS] * 3)
    came_back = sum(one.amount for one in pick(events, VerifierPaid))
    burned, minted = (sum(one.amount for one in pick(events, kind)) for kind in (FeeBurned, WorkersRewarded))
    assert len(pick(events, StagePaid)) == 3
    assert burned > 0
    assert minted <= burned // 2
    assert wealth() + came_back <= before - burned + minted, "the fees of the calls come on top"
    assert wealth() + came_back < before


def test_attack_work_that_burns_nothing_mints_nothing() -> None:
    world = World(emission_per_epoch=PLENTY, burn_permille=0)
    to_epoch_start(world)
    events = run(world, [Outcome.PASS] * 3)
    assert len(pick(events, StagePaid)) == 3
    assert not pick(events, WorkersRewarded)


def test_issuance_grows_by_what_is_minted_and_not_more() -> None:
    world = World(emission_per_epoch=50_000)
    to_epoch_start(world)
    for challenge in world.settle_and_draw(world.settle()):
        world.judge(challenge.challenge, world.verifiers[0], Outcome.PASS)
    blocks = world.chain.spec.params.staking.epoch_blocks
    world.chain.skip(blocks - 1 - world.chain.height % blocks)
    before = read_issuance(world.chain.state)
    events = world.chain.skip(1)
    (ended,) = pick(events, EpochEnded)
    minted = [one.amount for one in pick(events, WorkersRewarded)]
    assert sum(minted) == min(20_000, 3 * 4_000)
    assert read_issuance(world.chain.state) == before + ended.minted + sum(minted)
