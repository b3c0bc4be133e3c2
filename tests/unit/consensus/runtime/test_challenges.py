"""Draws, verdicts and what they do to money, with what a dishonest party would try."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from consensus.runtime.balances.state import VERIFICATION_POOL, read_account
from consensus.runtime.inference import draws, errors, queries
from consensus.runtime.inference.events import (
    ChallengeDrawn,
    ChallengeResolved,
    CommitteeEmpty,
    FeeBurned,
    RequestResolved,
    SessionClosed,
    StagePaid,
    StageRefunded,
    VerificationPoolPaid,
    VerifierPaid,
    WorkerEjected,
    WorkerReleased,
    WorkerSlashed,
)
from consensus.runtime.inference.payments import compute_pool_bonus
from consensus.runtime.inference.state import CommitteeMember, Reveal, StageStatus, WorkerStatus
from consensus.runtime.inference.verdicts import compute_tally, is_fingerprint_match
from genesis.dev import get_dev_identity
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.chain import Validator
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.request import compute_request_id
from tests.unit.consensus.runtime.chain import compute_beacon
from tests.unit.consensus.runtime.inference_world import BOND, FINGERPRINT, THRESHOLD_PPB, World, build_spec

GROSS = 2 * (500 * 40 + 1000 * 60)
PRICE = 3 * GROSS
BURNED = GROSS * 50 // 1000
VERIFICATION = GROSS * 100 // 1000
NET = GROSS - BURNED - VERIFICATION
THREE = ("alice", "eve", "ferdie")

E = TypeVar("E")


def pick(events: Any, kind: type[E]) -> list[E]:
    """The events of one kind."""
    return [one for one in events if isinstance(one, kind)]


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def test_a_pass_pays_worker_verifier_and_fire(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    assert [one.stage for one in drawn] == [0, 1, 2]
    assert all(one.committee == (world.verifiers[0].account,) and one.window < 4 for one in drawn)
    before = world.chain.free(world.workers[1])
    events = world.judge(drawn[1].challenge, world.verifiers[0], Outcome.PASS).events
    assert world.chain.free(world.workers[1]) == before + NET
    request, stage, key = drawn[1].request, 1, world.workers[1].worker_key.public_key
    assert pick(events, StagePaid) == [StagePaid(request, stage, key, world.workers[1].account, NET, True)]
    assert pick(events, FeeBurned) == [FeeBurned(request, stage, BURNED)]
    assert pick(events, VerifierPaid) == [VerifierPaid(drawn[1].challenge, world.verifiers[0].account, VERIFICATION)]
    worker = queries.read_worker(world.chain.state, key)
    assert worker is not None
    assert (worker.passes, worker.earned, worker.unresolved) == (1, NET, 0)


def test_a_request_resolves_with_its_last_stage_and_ends_a_used_up_session() -> None:
    world = World(requests_max=1)
    world.session = world.open_session(requests_max=1)
    drawn = world.settle_and_draw(world.settle())
    for one in drawn[:2]:
        assert not pick(world.judge(one.challenge, world.verifiers[0], Outcome.PASS).events, RequestResolved)
    before = world.chain.free(world.client)
    events = world.judge(drawn[2].challenge, world.verifiers[0], Outcome.PASS).events
    assert pick(events, RequestResolved) == [RequestResolved(drawn[2].request, world.session, PRICE, 0)]
    (closed,) = pick(events, SessionClosed)
    assert world.chain.free(world.client) == before + closed.refund
    assert closed.refund == 10 * NMYL_PER_MYL - PRICE


def test_undrawn_stages_are_paid_to_the_pool_s_share() -> None:
    world = World(base_challenge_ppm=0, probation_passes=0, exposure_factor=1, detection_permille=1000)
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
    world = World(base_challenge_ppm=500_000, probation_passes=0)
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


def test_draw_uses_the_beacon_two_blocks_later(world: World) -> None:
    world.chain.expect_ok(world.workers[0], world.settle())
    height = world.chain.height
    assert not pick(world.chain.skip(1), ChallengeDrawn)
    drawn = pick(world.chain.skip(1), ChallengeDrawn)
    request = compute_request_id(world.order().order)
    for one in drawn:
        assert one.window == draws.compute_draw(compute_beacon(height + 2), request, one.stage, 1_000_000, 4)
        challenge = queries.read_challenge(world.chain.state, one.challenge)
        assert challenge is not None
        assert challenge.beacon == compute_beacon(height + 2)


def test_draws_hit_as_often_as_asked() -> None:
    hits = [
        draws.compute_draw(compute_beacon(1), height.to_bytes(32, "big"), 0, 250_000, 10) for height in range(4_000)
    ]
    drawn = Counter(one for one in hits if one is not None)
    assert 880 < drawn.total() < 1_120
    assert set(drawn) == set(range(10))
    assert draws.compute_draw(compute_beacon(1), bytes(32), 0, 0, 10) is None
    assert all(draws.compute_draw(compute_beacon(h), bytes(32), 0, 1_000_000, 1) == 0 for h in range(50))


def test_a_fail_refunds_slashes_compensates_and_rewards(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    client, verifier = world.chain.free(world.client), world.chain.free(world.verifiers[0])
    commit, reveal = world.verdict(drawn[0].challenge, world.verifiers[0], Outcome.FAIL)
    paid = world.chain.expect_ok(world.verifiers[0], commit).fee
    receipt = world.chain.expect_ok(world.verifiers[0], reveal)
    (slashed,) = pick(receipt.events, WorkerSlashed)
    assert slashed.amount == BOND // 2
    assert slashed.compensation == PRICE - GROSS
    assert slashed.bounty == (BOND // 2 - slashed.compensation) // 2
    assert slashed.burned == slashed.amount - slashed.compensation - slashed.bounty
    assert pick(receipt.events, StageRefunded)[0].amount == GROSS
    assert world.chain.free(world.client) == client + PRICE
    tips = paid + receipt.fee
    assert world.chain.free(world.verifiers[0]) == verifier - tips + slashed.bounty
    worker = queries.read_worker(world.chain.state, world.workers[0].worker_key.public_key)
    assert worker is not None
    assert (worker.bond, worker.fails, worker.status) == (BOND // 2, 1, WorkerStatus.ACTIVE)


def test_failures_on_two_stages_do_not_over_compensate(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    client = world.chain.free(world.client)
    world.judge(drawn[0].challenge, world.verifiers[0], Outcome.FAIL)
    events = world.judge(drawn[1].challenge, world.verifiers[0], Outcome.FAIL).events
    assert pick(events, WorkerSlashed)[0].compensation == 0
    assert pick(events, StageRefunded)[0].amount == 0
    assert pick(events, FeeBurned)[0].amount == GROSS
    world.judge(drawn[2].challenge, world.verifiers[0], Outcome.UNAVAILABLE)
    assert world.chain.free(world.client) == client + PRICE
    request = queries.read_request(world.chain.state, drawn[0].request)
    assert request is not None
    assert request.returned == request.price
    wanted = [StageStatus.SLASHED, StageStatus.SLASHED, StageStatus.REFUNDED]
    assert [one.status for one in request.stages] == wanted


def test_a_poor_bond_compensates_with_what_it_has() -> None:
    world = World(worker_bond_min=1, detection_permille=1000, exposure_factor=1)
    eve = get_dev_identity("eve")
    world.chain.expect_ok(eve, world.register_worker(eve, 0, 2, bond=GROSS))
    world.workers[0] = eve
    drawn = world.settle_and_draw(world.settle())
    events = world.judge(drawn[0].challenge, world.verifiers[0], Outcome.FAIL).events
    (slashed,) = pick(events, WorkerSlashed)
    assert (slashed.amount, slashed.compensation, slashed.bounty, slashed.burned) == (GROSS // 2, GROSS // 2, 0, 0)


def test_below_the_minimum_bond_a_worker_is_ejected_and_later_released() -> None:
    world = World(worker_bond_min=BOND)
    drawn = world.settle_and_draw(world.settle())
    key = world.workers[0].worker_key.public_key
    events = world.judge(drawn[0].challenge, world.verifiers[0], Outcome.FAIL).events
    assert pick(events, WorkerEjected)[0].worker == key
    receipt = world.chain.expect_ok(world.workers[1], world.settle(sequence=1))
    assert [one.stage for one in pick(receipt.events, StageRefunded)] == [0]
    drawn += pick(world.chain.skip(2), ChallengeDrawn)
    assert len(drawn) == 5
    world.chain.expect_error(world.workers[0], calls.RetireWorker(key), errors.WorkerNotActive)
    for one in drawn[1:]:
        world.judge(one.challenge, world.verifiers[0], Outcome.PASS)
    released = pick(world.chain.skip(110), WorkerReleased)
    assert [(one.worker, one.bond) for one in released] == [(key, BOND // 2)]


@pytest.mark.parametrize("outcome", [Outcome.UNAVAILABLE, Outcome.INCONCLUSIVE])
def test_no_blame_means_refund_and_no_slash(world: World, outcome: Outcome) -> None:
    drawn = world.settle_and_draw(world.settle())
    client = world.chain.free(world.client)
    events = world.judge(drawn[2].challenge, world.verifiers[0], outcome).events
    assert pick(events, ChallengeResolved)[0].outcome == outcome
    assert pick(events, StageRefunded)[0].amount == GROSS
    assert world.chain.free(world.client) == client + GROSS
    worker = queries.read_worker(world.chain.state, world.workers[2].worker_key.public_key)
    assert worker is not None
    assert (worker.bond, worker.unavailable) == (BOND, int(outcome == Outcome.UNAVAILABLE))


def test_silence_is_inconclusive_at_the_reveal_deadline(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    params = world.chain.spec.params.inference
    commit, reveal = world.verdict(drawn[0].challenge, world.verifiers[0], Outcome.FAIL)
    world.chain.expect_ok(world.verifiers[0], commit)
    events = world.chain.skip(params.commit_blocks + params.reveal_blocks)
    assert [one.outcome for one in pick(events, ChallengeResolved)] == [Outcome.INCONCLUSIVE] * 3
    assert pick(events, RequestResolved)[0].returned == PRICE
    world.chain.expect_error(world.verifiers[0], reveal, errors.ChallengeClosed)
    assert queries.list_open_challenges(world.chain.state, world.verifiers[0].account) == []


def test_without_an_eligible_verifier_a_drawn_stage_is_refunded() -> None:
    world = World(validators=("bob",))
    world.chain.expect_ok(world.workers[0], world.settle())
    events = world.chain.skip(2)
    assert [one.stage for one in pick(events, CommitteeEmpty)] == [0, 1, 2]
    assert pick(events, RequestResolved)[0].returned == PRICE


def bob_first_world() -> World:
    """Alice and the worker bob are validators, both verify the model."""
    return World(validators=("alice", "bob"), committee_size=2)


def test_a_party_never_verifies_its_own_request() -> None:
    world = bob_first_world()
    drawn = world.settle_and_draw(world.settle())
    assert {one.committee for one in drawn} == {(get_dev_identity("alice").account,)}
    commit, _ = world.verdict(drawn[1].challenge, get_dev_identity("bob"), Outcome.FAIL)
    world.chain.expect_error(get_dev_identity("bob"), commit, errors.NotOnCommittee)


def test_only_the_committee_is_heard(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    eve = get_dev_identity("eve")
    commit, reveal = world.verdict(drawn[0].challenge, eve, Outcome.FAIL)
    world.chain.expect_error(eve, commit, errors.NotOnCommittee)
    world.chain.expect_error(eve, reveal, errors.NotOnCommittee)
    nowhere, _ = world.verdict(bytes(32), world.verifiers[0], Outcome.FAIL)
    world.chain.expect_error(world.verifiers[0], nowhere, errors.UnknownChallenge)


def test_verdicts_are_committed_and_revealed_once_in_time(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    alice = world.verifiers[0]
    commit, reveal = world.verdict(drawn[0].challenge, alice, Outcome.PASS)
    world.chain.expect_error(alice, reveal, errors.NotCommitted)
    world.chain.expect_ok(alice, commit)
    world.chain.expect_error(alice, commit, errors.AlreadyCommitted)
    world.chain.expect_error(alice, replace(reveal, outcome=Outcome.FAIL), errors.WrongReveal)
    world.chain.expect_error(alice, replace(reveal, salt=bytes(32)), errors.WrongReveal)
    world.chain.expect_ok(alice, reveal)
    world.chain.expect_error(alice, reveal, errors.ChallengeClosed)
    late, _ = world.verdict(drawn[1].challenge, alice, Outcome.PASS)
    world.chain.skip(drawn[1].commit_deadline - world.chain.height)
    world.chain.expect_error(alice, late, errors.ChallengeClosed)


@pytest.mark.parametrize(
    ("outcome", "fields"),
    [
        (Outcome.PASS, {"fingerprint": bytes(FINGERPRINT_BYTES)}),
        (Outcome.PASS, {"distance_ppb": THRESHOLD_PPB + 1}),
        (Outcome.PASS, {"token_mismatches": 1}),
        (Outcome.FAIL, {"distance_ppb": THRESHOLD_PPB}),
        (Outcome.UNAVAILABLE, {"fingerprint": FINGERPRINT}),
        (Outcome.INCONCLUSIVE, {"distance_ppb": 1}),
        (4, {"distance_ppb": 0}),
    ],
)
def test_a_verdict_may_not_contradict_itself(world: World, outcome: int, fields: dict[str, Any]) -> None:
    drawn = world.settle_and_draw(world.settle())
    values = {"distance_ppb": 0, **fields} if outcome == 4 else fields
    commit, reveal = world.verdict(drawn[0].challenge, world.verifiers[0], outcome, **values)
    world.chain.expect_ok(world.verifiers[0], commit)
    world.chain.expect_error(world.verifiers[0], reveal, errors.InconsistentVerdict)


def test_a_wrong_token_alone_is_a_fail(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    fields = {"distance_ppb": 10, "token_mismatches": 2}
    events = world.judge(drawn[2].challenge, world.verifiers[0], Outcome.FAIL, **fields).events
    assert pick(events, WorkerSlashed)[0].stage == 2


class Committee:
    """Three verifiers of equal stake before one challenge."""

    def __init__(self, **params: Any) -> None:
        self.world = World(validators=THREE, **{"committee_size": 3, "fails_min": 2, **params})
        self.challenge = self.world.settle_and_draw(self.world.settle())[0]
        self.members = self.world.verifiers

    def vote(self, *verdicts: dict[str, Any]) -> list[Any]:
        """All commit, then all reveal; returns the last reveal's events."""
        pairs = [
            (who, *self.world.verdict(self.challenge.challenge, who, **one))
            for who, one in zip(self.members, verdicts, strict=False)
        ]
        for who, commit, _ in pairs:
            self.world.chain.expect_ok(who, commit)
        if len(pairs) < len(self.members):
            self.world.chain.skip(self.challenge.commit_deadline - self.world.chain.height)
        events: list[Any] = []
        for who, _, reveal in pairs:
            events = list(self.world.chain.expect_ok(who, reveal).events)
        return events


OTHER_FINGERPRINT = bytes([9, 1, 0, 0] * (FINGERPRINT_BYTES // 4))


def test_two_fails_of_three_convict() -> None:
    court = Committee()
    events = court.vote({"outcome": Outcome.FAIL}, {"outcome": Outcome.PASS}, {"outcome": Outcome.FAIL})
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.FAIL
    paid = {one.verifier: one.amount for one in pick(events, VerifierPaid)}
    assert set(paid) == {court.members[0].account, court.members[2].account}
    assert sum(paid.values()) == pick(events, WorkerSlashed)[0].bounty
    assert max(paid.values()) - min(paid.values()) <= 1


def test_two_passes_of_three_acquit_and_share() -> None:
    court = Committee()
    events = court.vote({"outcome": Outcome.PASS}, {"outcome": Outcome.PASS}, {"outcome": Outcome.FAIL})
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.PASS
    assert sum(one.amount for one in pick(events, VerifierPaid)) == VERIFICATION
    assert {one.verifier for one in pick(events, VerifierPaid)} == {one.account for one in court.members[:2]}


def test_a_split_court_is_inconclusive() -> None:
    events = Committee().vote({"outcome": Outcome.PASS}, {"outcome": Outcome.UNAVAILABLE}, {"outcome": Outcome.FAIL})
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.INCONCLUSIVE
    assert not pick(events, WorkerSlashed)


def test_one_fail_is_not_enough_when_two_are_asked() -> None:
    events = Committee().vote({"outcome": Outcome.FAIL})
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.INCONCLUSIVE


def test_an_outlier_s_verdict_does_not_count() -> None:
    events = Committee().vote(
        {"outcome": Outcome.FAIL},
        {"outcome": Outcome.FAIL, "fingerprint": OTHER_FINGERPRINT},
        {"outcome": Outcome.PASS},
    )
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.INCONCLUSIVE
    events = Committee().vote(
        {"outcome": Outcome.PASS},
        {"outcome": Outcome.PASS, "fingerprint": OTHER_FINGERPRINT},
        {"outcome": Outcome.PASS},
    )
    (resolved,) = pick(events, ChallengeResolved)
    assert resolved.outcome == Outcome.PASS
    assert len(pick(events, VerifierPaid)) == 2


def test_a_copied_commitment_is_worthless_and_a_reveal_waits_for_all() -> None:
    court = Committee()
    chain, (alice, eve, ferdie) = court.world.chain, court.members
    commit, reveal = court.world.verdict(court.challenge.challenge, alice, Outcome.PASS)
    chain.expect_ok(alice, commit)
    chain.expect_ok(eve, commit)
    chain.expect_error(alice, reveal, errors.TooEarly)
    last, _ = court.world.verdict(court.challenge.challenge, ferdie, Outcome.PASS)
    chain.expect_ok(ferdie, last)
    chain.expect_ok(alice, reveal)
    chain.expect_error(alice, reveal, errors.AlreadyRevealed)
    chain.expect_error(eve, reveal, errors.WrongReveal)


def test_open_challenges_lead_each_verifier_to_its_duty() -> None:
    court = Committee()
    chain, (alice, eve, _) = court.world.chain, court.members
    mine = court.challenge.challenge
    assert mine in dict(queries.list_open_challenges(chain.state, alice.account))
    for who in court.members:
        commit, _ = court.world.verdict(mine, who, Outcome.PASS)
        chain.expect_ok(who, commit)
    assert queries.read_commitment(chain.state, mine, alice.account) is not None
    _, reveal = court.world.verdict(mine, alice, Outcome.PASS)
    chain.expect_ok(alice, reveal)
    assert mine not in dict(queries.list_open_challenges(chain.state, alice.account))
    assert mine in dict(queries.list_open_challenges(chain.state, eve.account))
    assert list(queries.read_reveals(chain.state, mine)) == [alice.account]


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


def test_tally_counts_the_stake_of_the_silent() -> None:
    params = build_spec(committee_size=3, fails_min=1).params.inference
    committee = tuple(CommitteeMember(bytes([index]) * 32, stake) for index, stake in enumerate((66, 1, 33)))
    reveal = Reveal(Outcome.PASS, 5, 0, FINGERPRINT)
    first = compute_tally(params, committee, {committee[0].verifier: reveal}, THRESHOLD_PPB)
    assert first.outcome == Outcome.INCONCLUSIVE
    both = {committee[0].verifier: reveal, committee[1].verifier: replace(reveal, distance_ppb=9)}
    second = compute_tally(params, committee, both, THRESHOLD_PPB)
    assert (second.outcome, second.distance_ppb) == (Outcome.PASS, 9)


def test_a_fail_needs_independent_accusers_however_rich_one_is() -> None:
    params = build_spec(committee_size=3, fails_min=2).params.inference
    committee = tuple(CommitteeMember(bytes([index]) * 32, stake) for index, stake in enumerate((70, 15, 15)))
    fail = Reveal(Outcome.FAIL, 900_000, 0, FINGERPRINT)
    alone = compute_tally(params, committee, {committee[0].verifier: fail}, THRESHOLD_PPB)
    assert alone.outcome == Outcome.INCONCLUSIVE
    seconded = {committee[0].verifier: fail, committee[1].verifier: fail}
    assert compute_tally(params, committee, seconded, THRESHOLD_PPB).outcome == Outcome.FAIL


def test_fingerprints_match_within_the_threshold() -> None:
    def scaled(value: int) -> bytes:
        return value.to_bytes(4, "little", signed=True) * 256

    assert is_fingerprint_match(scaled(1_000_000), scaled(1_000_030), 30_000)
    assert not is_fingerprint_match(scaled(1_000_000), scaled(1_000_031), 30_000)
    assert not is_fingerprint_match(scaled(1_000_000), scaled(-1_000_000), 30_000)
    assert is_fingerprint_match(scaled(-7), scaled(-7), 0)
    assert not is_fingerprint_match(scaled(0), scaled(1), 999_999_999)


def test_resolved_requests_and_sessions_are_forgotten_in_time() -> None:
    world = World(requests_max=1, retention_blocks=5)
    world.session = world.open_session(requests_max=1)
    call = world.settle()
    drawn = world.settle_and_draw(call)
    for one in drawn:
        world.judge(one.challenge, world.verifiers[0], Outcome.PASS)
    assert queries.read_request(world.chain.state, drawn[0].request) is not None
    world.chain.skip(6)
    assert queries.read_request(world.chain.state, drawn[0].request) is None
    assert queries.read_challenge(world.chain.state, drawn[0].challenge) is None
    assert queries.read_session(world.chain.state, world.session) is None
    assert not list(world.chain.state.iterate(b"inference.reveal:"))
    assert not list(world.chain.state.iterate(b"inference.request_by_session:"))
    world.chain.expect_error(world.workers[0], call, errors.UnknownSession)


def test_a_forgotten_request_cannot_be_settled_again() -> None:
    world = World(retention_blocks=5)
    call = world.settle()
    for one in world.settle_and_draw(call):
        world.judge(one.challenge, world.verifiers[0], Outcome.PASS)
    world.chain.skip(6)
    assert queries.read_request(world.chain.state, compute_request_id(call.order.order)) is None
    world.chain.expect_error(world.workers[0], call, errors.SequenceUsed)
