"""Verdicts of one verifier and what they do to money, with what a dishonest party would try."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.events import (
    ChallengeDrawn,
    ChallengeResolved,
    FeeBurned,
    RequestResolved,
    SessionClosed,
    StagePaid,
    StageRefunded,
    VerifierPaid,
    WorkerEjected,
    WorkerReleased,
    WorkerSlashed,
)
from consensus.runtime.inference.state import StageStatus, WorkerStatus
from genesis.dev import get_dev_identity
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.request import compute_request_id
from tests.unit.consensus.runtime.inference.inference_world import (
    BOND,
    BURNED,
    FINGERPRINT,
    GROSS,
    NET,
    REQUEST_PRICE,
    THRESHOLD_PPB,
    VERIFICATION,
    World,
    pick,
)


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
    assert pick(events, RequestResolved) == [RequestResolved(drawn[2].request, world.session, REQUEST_PRICE, 0)]
    (closed,) = pick(events, SessionClosed)
    assert world.chain.free(world.client) == before + closed.refund
    assert closed.refund == 10 * NMYL_PER_MYL - REQUEST_PRICE


def test_a_fail_refunds_slashes_compensates_and_rewards(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    client, verifier = world.chain.free(world.client), world.chain.free(world.verifiers[0])
    commit, reveal = world.verdict(drawn[0].challenge, world.verifiers[0], Outcome.FAIL)
    paid = world.chain.expect_ok(world.verifiers[0], commit).fee
    receipt = world.chain.expect_ok(world.verifiers[0], reveal)
    (slashed,) = pick(receipt.events, WorkerSlashed)
    assert slashed.amount == BOND // 2
    assert slashed.compensation == REQUEST_PRICE - GROSS
    assert slashed.bounty == (BOND // 2 - slashed.compensation) // 2
    assert slashed.burned == slashed.amount - slashed.compensation - slashed.bounty
    assert pick(receipt.events, StageRefunded)[0].amount == GROSS
    assert world.chain.free(world.client) == client + REQUEST_PRICE
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
    assert world.chain.free(world.client) == client + REQUEST_PRICE
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


def test_no_verdict_means_refund_and_no_slash(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    client = world.chain.free(world.client)
    events = world.judge(drawn[2].challenge, world.verifiers[0], Outcome.INCONCLUSIVE).events
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.INCONCLUSIVE
    assert pick(events, StageRefunded)[0].amount == GROSS
    assert world.chain.free(world.client) == client + GROSS
    worker = queries.read_worker(world.chain.state, world.workers[2].worker_key.public_key)
    assert worker is not None
    assert (worker.bond, worker.unavailable) == (BOND, 0)


def test_silence_is_inconclusive_at_the_reveal_deadline(world: World) -> None:
    drawn = world.settle_and_draw(world.settle())
    params = world.chain.spec.params.inference
    commit, reveal = world.verdict(drawn[0].challenge, world.verifiers[0], Outcome.FAIL)
    world.chain.expect_ok(world.verifiers[0], commit)
    events = world.chain.skip(params.commit_blocks + params.reveal_blocks)
    assert [one.outcome for one in pick(events, ChallengeResolved)] == [Outcome.INCONCLUSIVE] * 3
    assert pick(events, RequestResolved)[0].returned == REQUEST_PRICE
    world.chain.expect_error(world.verifiers[0], reveal, errors.ChallengeClosed)
    assert queries.list_open_challenges(world.chain.state, world.verifiers[0].account) == []


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
