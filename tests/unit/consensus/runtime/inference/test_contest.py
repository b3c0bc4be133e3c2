"""Contested challenges, silence and jail: a minority cannot save a wrong worker by contradicting, nor by silence."""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.inference import queries
from consensus.runtime.inference.events import ChallengeContested, ChallengeResolved, VerifierPaid, WorkerJailed
from consensus.runtime.inference.state import StageStatus
from genesis.dev import get_dev_identity
from proto_specs.types.calls import Outcome
from tests.unit.consensus.runtime.inference.inference_world import World, pick


def test_a_contradicting_minority_brings_more_judges_and_earns_nothing() -> None:
    names = ("alice", "eve", "ferdie", "george", "heidi", "ivan")
    world = World(validators=names, committee_size=2, fails_min=2, contest_committee_size=4)
    one = world.settle_and_draw(world.settle())[0]
    who = {verifier.account: verifier for verifier in world.verifiers}
    votes = [
        (who[account], *world.verdict(one.challenge, who[account], outcome))
        for account, outcome in zip(one.committee, (Outcome.PASS, Outcome.FAIL), strict=True)
    ]
    for verifier, commit, _ in votes:
        world.chain.expect_ok(verifier, commit)
    for verifier, _, reveal in votes:
        world.chain.expect_ok(verifier, reveal)
    (contested,) = pick(world.chain.skip(2), ChallengeContested)
    assert len(contested.committee) == 4
    assert not set(contested.committee) & set(one.committee)
    fails = [
        (who[account], *world.verdict(one.challenge, who[account], Outcome.FAIL)) for account in contested.committee
    ]
    for verifier, commit, _ in fails:
        world.chain.expect_ok(verifier, commit)
    for verifier, _, reveal in fails:
        receipt = world.chain.expect_ok(verifier, reveal)
    assert pick(receipt.events, ChallengeResolved)[0].outcome == Outcome.FAIL
    assert {paid.verifier for paid in pick(receipt.events, VerifierPaid)} == {one.committee[1], *contested.committee}


def test_withholding_too_often_is_jailed_for_a_time() -> None:
    world = World(unavailable_max=2)
    for sequence in range(2):
        drawn = world.settle_and_draw(world.settle(sequence))
        events = world.judge(drawn[0].challenge, world.verifiers[0], Outcome.UNAVAILABLE).events
        for other in drawn[1:]:
            world.judge(other.challenge, world.verifiers[0], Outcome.PASS)
    (jailed,) = pick(events, WorkerJailed)
    assert [one.stage for one in world.settle_and_draw(world.settle(2))] == [1, 2]
    world.chain.skip(jailed.until - world.chain.height)
    assert len(world.settle_and_draw(world.settle(3))) == 3
    worker = queries.read_worker(world.chain.state, jailed.worker)
    assert worker is not None
    assert worker.unavailable == 2
    conduct = queries.read_conduct(world.chain.state, jailed.operator)
    assert (conduct.strikes, conduct.terms) == (0, 1)


def test_attack_a_new_worker_key_does_not_leave_its_operator_s_jail() -> None:
    world = World(unavailable_max=1)
    drawn = world.settle_and_draw(world.settle(0))
    (jailed,) = pick(world.judge(drawn[0].challenge, world.verifiers[0], Outcome.UNAVAILABLE).events, WorkerJailed)
    bob = world.workers[0]
    fresh = replace(bob, worker_key=get_dev_identity("fresh").worker_key)
    world.chain.expect_ok(fresh, world.register_worker(fresh, 0, 2))
    world.workers[0] = fresh
    assert [one.stage for one in world.settle_and_draw(world.settle(1))] == [1, 2]
    request = queries.read_request(world.chain.state, dict(queries.list_requests(world.chain.state, world.session))[1])
    assert request is not None
    assert request.stages[0].status == StageStatus.REFUNDED
    world.chain.skip(jailed.until - world.chain.height)
    assert len(world.settle_and_draw(world.settle(2))) == 3
