"""Which stages of a request are drawn, who verifies them, and what becomes of those that are not drawn."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.manifests import build_manifest
from consensus.runtime.balances.state import VERIFICATION_POOL, read_account
from consensus.runtime.inference import draws, errors, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import (
    ChallengeDrawn,
    CommitteeEmpty,
    RequestResolved,
    StagePaid,
    VerificationPoolPaid,
    VerifierPaid,
)
from consensus.runtime.inference.payments import compute_pool_bonus
from genesis.dev import get_dev_identity
from proto_specs.types.calls import Outcome
from proto_specs.types.chain import Validator
from proto_specs.types.request import compute_request_id
from tests.unit.consensus.runtime.chain import compute_beacon
from tests.unit.consensus.runtime.inference.inference_world import (
    LAYERS,
    NET,
    REQUEST_PRICE,
    VERIFICATION,
    World,
    pick,
)


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def test_draw_uses_the_beacon_two_blocks_later(world: World) -> None:
    world.chain.expect_ok(world.workers[0], world.settle())
    height = world.chain.height
    assert not pick(world.chain.skip(1), ChallengeDrawn)
    drawn = pick(world.chain.skip(1), ChallengeDrawn)
    request = compute_request_id(world.order().order)
    for one in drawn:
        assert one.window == draws.compute_draw(compute_beacon(height + 2), request, one.stage, 1_000_000, range(4))
        challenge = queries.read_challenge(world.chain.state, one.challenge)
        assert challenge is not None
        assert challenge.beacon == compute_beacon(height + 2)


def test_draws_hit_as_often_as_asked() -> None:
    hits = [
        draws.compute_draw(compute_beacon(1), height.to_bytes(32, "big"), 0, 250_000, range(10))
        for height in range(4_000)
    ]
    drawn = Counter(one for one in hits if one is not None)
    assert 880 < drawn.total() < 1_120
    assert set(drawn) == set(range(10))
    assert draws.compute_draw(compute_beacon(1), bytes(32), 0, 0, range(10)) is None
    assert all(draws.compute_draw(compute_beacon(h), bytes(32), 0, 1_000_000, range(1)) == 0 for h in range(50))


def test_undrawn_stages_are_paid_to_the_pool_s_share() -> None:
    world = World(base_challenge_ppm=0, probation_value=0, exposure_factor=1, detection_permille=1000)
    before = world.chain.free(world.workers[0])
    receipt = world.chain.expect_ok(world.workers[0], world.settle())
    events = world.chain.skip(2)
    assert not pick(events, ChallengeDrawn)
    assert len(pick(events, StagePaid)) == 3
    assert not any(one.challenged for one in pick(events, StagePaid))
    assert sum(one.amount for one in pick(events, VerificationPoolPaid)) == 3 * VERIFICATION
    assert world.chain.free(world.workers[0]) == before - receipt.fee + NET
    assert pick(events, RequestResolved)[0].returned == 0


def test_the_pool_pays_for_the_undrawn_stages_a_drawn_one_stands_for() -> None:
    assert compute_pool_bonus(100, 250_000, 10_000) == 300
    assert compute_pool_bonus(100, 250_000, 299) == 299
    assert compute_pool_bonus(100, 1_000_000, 10_000) == 0
    world = World(base_challenge_ppm=500_000, probation_value=0)
    pool, bonuses = 0, []
    for sequence in range(8):
        world.chain.expect_ok(world.workers[0], world.settle(sequence))
        events = world.chain.skip(2)
        pool += sum(one.amount for one in pick(events, VerificationPoolPaid))
        for one in pick(events, ChallengeDrawn):
            judged = world.judge(one.challenge, world.verifiers[0], Outcome.PASS).events
            bonus = pick(judged, VerifierPaid)[0].amount - VERIFICATION
            assert bonus == min(pool, VERIFICATION)
            pool -= bonus
            bonuses.append(bonus)
        assert read_account(world.chain.state, VERIFICATION_POOL).free == pool
    assert VERIFICATION in bonuses


def test_without_an_eligible_verifier_a_drawn_stage_is_refunded() -> None:
    world = World()
    world.chain.expect_ok(world.workers[0], world.settle())
    del world.chain.state.items[inference.verifiers.key(world.model, world.verifiers[0].account)]
    events = world.chain.skip(2)
    assert [one.stage for one in pick(events, CommitteeEmpty)] == [0, 1, 2]
    assert pick(events, RequestResolved)[0].returned == REQUEST_PRICE


def bob_first_world() -> World:
    """Alice and the worker bob are validators, both verify the model."""
    return World(validators=("alice", "bob"), committee_size=2)


def test_a_party_never_verifies_its_own_request() -> None:
    world = bob_first_world()
    drawn = world.settle_and_draw(world.settle())
    alice, bob = (get_dev_identity(name).account for name in ("alice", "bob"))
    assert [one.committee for one in drawn[:2]] == [(alice,), (alice,)], "his stage, and the one beside it"
    assert set(drawn[2].committee) == {alice, bob}
    commit, _ = world.verdict(drawn[1].challenge, get_dev_identity("bob"), Outcome.FAIL)
    world.chain.expect_error(get_dev_identity("bob"), commit, errors.NotOnCommittee)


def test_committees_are_drawn_by_stake_without_replacement() -> None:
    pool = [Validator(bytes([index]) * 32, bytes([index]) * 32, 1 + 9 * (index == 3)) for index in range(8)]
    firsts: Counter[int] = Counter()
    for trial in range(1_000):
        seated = draws.compute_committee(compute_beacon(trial), bytes(32), pool, 3)
        assert len({one.key for one in seated}) == 3
        firsts[seated[0].key[0]] += 1
    assert 520 < firsts[3] < 660
    assert min(firsts.values()) > 20
    assert len(draws.compute_committee(compute_beacon(0), bytes(32), pool, 20)) == 8


def test_a_challenge_has_the_threshold_of_the_boundary_its_worker_ends_at() -> None:
    thresholds = (1_000, 2_000, 3_000, 4_000, 5_000, 6_000)
    world = World(manifest=build_manifest(LAYERS, thresholds=thresholds))
    world.chain.expect_ok(world.workers[0], world.settle())
    drawn = pick(world.chain.skip(2), ChallengeDrawn)
    assert drawn
    for one in drawn:
        challenge = queries.read_challenge(world.chain.state, one.challenge)
        assert challenge is not None
        assert challenge.threshold_ppb == thresholds[2 * one.stage + 1]
