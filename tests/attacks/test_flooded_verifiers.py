"""Verifiers get more duties than they can do, or are kept from answering, to have them slashed or a cheat spared."""

from __future__ import annotations

from typing import Any

from consensus.runtime.balances.state import HoldReason, read_hold
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import errors, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_events import DeadlinesMoved, DrawPostponed, VerifierLeaving, VerifierLeft
from consensus.runtime.inference.events import (
    ChallengeContested,
    ChallengeDrawn,
    ChallengeResolved,
    CommitteeEmpty,
    StagePaid,
    StageRefunded,
    VerifierSilent,
)
from consensus.runtime.staking import state as staking
from consensus.runtime.system import space
from genesis.dev import get_dev_identity
from proto_specs.codec import encode
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.inference.court import Court
from tests.unit.consensus.runtime.inference.inference_world import World, pick

STAKE = 100_000 * NMYL_PER_MYL
CAP = 4
"""Open challenges per verifier in these tests: a request has three stages."""


def flood(world: World, requests: int) -> list[Any]:
    """Settle requests whose workers will hang; the events of their draws."""
    for sequence in range(requests):
        world.chain.expect_ok(world.workers[0], world.settle(sequence))
    return []


def test_no_verifier_gets_more_seats_than_it_can_serve() -> None:
    world = World(open_challenges_max=CAP, commit_blocks=30)
    alice = world.verifiers[0]
    flood(world, 3)
    events = world.chain.skip(2)
    assert queries.count_seats(world.chain.state, alice.account) == CAP
    assert len(pick(events, DrawPostponed)) > 0
    assert not pick(events, StagePaid), "what waits for a committee is not paid unverified"


def test_without_a_cap_a_flood_made_honest_verifiers_silent() -> None:
    """One that answers four challenges in time is seated in nine, and slashed for five."""
    for cap, silent in ((64, 5), (CAP, 0)):
        world = World(open_challenges_max=cap, commit_blocks=10, reveal_blocks=3, silence_epoch_permille=100)
        alice = world.verifiers[0]
        flood(world, 3)
        events = world.chain.skip(2)
        for challenge, _ in queries.list_open_challenges(world.chain.state, alice.account)[:CAP]:
            world.judge(challenge, alice, Outcome.UNAVAILABLE)
            assert world.chain.last is not None
            events += world.chain.last.events.initialize
        while queries.count_seats(world.chain.state, alice.account) and cap == 64:
            events += world.chain.skip(1)
        assert len(pick(events, VerifierSilent)) == silent


def test_what_waited_is_judged_when_seats_are_free() -> None:
    world = World(open_challenges_max=CAP, postpone_blocks=2)
    alice = world.verifiers[0]
    flood(world, 2)
    world.chain.skip(2)
    judged = 0
    while queries.list_open_challenges(world.chain.state, alice.account) or judged < 6:
        for challenge, _ in queries.list_open_challenges(world.chain.state, alice.account):
            world.judge(challenge, alice, Outcome.PASS)
            judged += 1
        world.chain.skip(1)
    assert judged == 6
    assert all(
        not request.open_stages
        for _, key in queries.list_requests(world.chain.state, world.session)
        if (request := queries.read_request(world.chain.state, key)) is not None
    )


def test_what_finds_no_seat_for_long_is_refunded_and_never_paid() -> None:
    world = World(open_challenges_max=CAP, postpone_blocks=2, postpone_max=3, commit_blocks=40)
    flood(world, 2)
    events = world.chain.skip(2 + 3 * 2)
    assert len(pick(events, CommitteeEmpty)) == len(pick(events, StageRefunded)) == 2
    assert not pick(events, StagePaid)
    worker = queries.read_worker(world.chain.state, world.workers[0].worker_key.public_key)
    assert worker is not None
    assert worker.unavailable == 0, "nobody's fault"


def test_silence_costs_no_more_than_an_epoch_s_bound() -> None:
    """Twelve challenges at once, whoever it was that kept the verifier from answering."""
    epoch = 10
    for bound, most in ((100, 12), (3, 3)):
        world = World(commit_blocks=epoch, reveal_blocks=2, silence_epoch_permille=bound)
        alice = world.verifiers[0]
        flood(world, 4)
        silent = pick(world.chain.skip(epoch + 10), VerifierSilent)
        assert len(silent) == 12
        left = staking.read_stake(world.chain.state, alice.account).bonded
        least = STAKE * (1_000 - most) // 1_000
        assert least <= left < least + STAKE // 1_000 * 2


def test_deadlines_do_not_run_while_blocks_are_full() -> None:
    """As many blocks as were full are added, again and again, and everybody who asks is told."""
    court = Court()
    before = court.read()
    full = 7
    court.chain.state.items[space.paused.key] = encode_count(full)
    now = court.read()
    assert now.commit_deadline == before.commit_deadline + full
    assert now.reveal_deadline == before.reveal_deadline + full
    court.skip(before.commit_deadline - court.chain.height + 1)
    for account in court.drawn.committee:
        commit, _ = court.world.verdict(court.drawn.challenge, court.who[account], Outcome.PASS)
        court.chain.expect_ok(court.who[account], commit)
    events = court.skip(before.reveal_deadline - court.chain.height)
    assert pick(events, DeadlinesMoved)[0].reveal_deadline == now.reveal_deadline
    assert not pick(events, VerifierSilent)
    court.chain.state.items[space.paused.key] = encode_count(full + 10)
    events = court.skip(now.reveal_deadline - court.chain.height)
    assert not pick(events, ChallengeResolved)
    for account in court.drawn.committee:
        _, reveal = court.world.verdict(court.drawn.challenge, court.who[account], Outcome.PASS)
        court.chain.expect_ok(court.who[account], reveal)
    assert court.read().outcome == Outcome.PASS


def encode_count(blocks: int) -> bytes:
    """The stored form of the count of full blocks."""
    return encode(space.Paused(blocks, blocks))


def test_the_settler_pays_for_what_nobody_can_judge_and_nobody_loses_by_a_pass() -> None:
    world = World(verification_deposit=5_000_000)
    settler, alice = world.workers[0], world.verifiers[0]
    drawn = world.settle_and_draw(world.settle())
    held = read_hold(world.chain.state, settler.account, HoldReason.VERIFICATION_DEPOSIT)
    assert held == 3 * 5_000_000
    for number, outcome in enumerate((Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.UNAVAILABLE)):
        before = world.chain.free(settler)
        events = world.judge(drawn[number].challenge, alice, outcome).events
        paid = sum(one.amount for one in pick(events, StagePaid) if one.operator == settler.account)
        returned = world.chain.free(settler) - before - paid
        assert returned == (0 if outcome == Outcome.INCONCLUSIVE else 5_000_000), outcome
    assert read_hold(world.chain.state, settler.account, HoldReason.VERIFICATION_DEPOSIT) == 0
    assert queries.read_verification_deposit(world.chain.state, drawn[0].request) is None


def test_who_unregisters_is_drawn_until_its_notice_ends() -> None:
    """Or a verifier would leave whenever it sees a duty coming."""
    world = World(("alice", "eve"), verifier_notice_blocks=6, committee_size=2)
    eve = get_dev_identity("eve")
    world.chain.expect_error(eve, calls.UnregisterVerifier(bytes(32)), errors.NotVerifier)
    (leaving,) = pick(world.chain.expect_ok(eve, calls.UnregisterVerifier(world.model)).events, VerifierLeaving)
    world.chain.expect_error(eve, calls.UnregisterVerifier(world.model), errors.AlreadyLeaving)
    assert committees.leaving_verifiers.read(world.chain.state, world.model, eve.account) == leaving.height
    drawn = world.settle_and_draw(world.settle())
    assert all(eve.account in one.committee for one in drawn)
    events = world.chain.skip(leaving.height - world.chain.height)
    assert pick(events, VerifierLeft) == [VerifierLeft(world.model, eve.account)]
    assert queries.count_seats(world.chain.state, eve.account) == 3, "it keeps the seats it has"
    world.chain.expect_ok(world.workers[0], world.settle(1))
    assert all(eve.account not in one.committee for one in pick(world.chain.skip(2), ChallengeDrawn))
    world.chain.expect_ok(eve, calls.RegisterVerifier(world.model))


def test_who_registers_again_in_time_stays() -> None:
    world = World(("alice", "eve"), verifier_notice_blocks=6)
    eve = get_dev_identity("eve")
    world.chain.expect_error(eve, calls.RegisterVerifier(world.model), errors.AlreadyVerifier)
    world.chain.expect_ok(eve, calls.UnregisterVerifier(world.model))
    world.chain.expect_ok(eve, calls.RegisterVerifier(world.model))
    world.chain.skip(8)
    assert inference.verifiers.contains(world.chain.state, world.model, eve.account)


def test_a_round_waits_for_free_seats_too() -> None:
    """The cheat's friends are silent, and who could replace them is busy: the round waits until it is not."""
    names = ("alice", "eve", "ferdie", "george")
    for wait in range(20):
        world = World(
            names, open_challenges_max=1, postpone_blocks=1, committee_size=3, fails_min=2, committee_stake_permille=0
        )
        who = {one.account: one for one in world.verifiers}
        world.chain.skip(wait)
        (drawn,) = world.settle_and_draw(world.settle())
        accuser = who[drawn.committee[0]]
        commit, reveal = world.verdict(drawn.challenge, accuser, Outcome.FAIL)
        world.chain.expect_ok(accuser, commit)
        world.chain.skip(drawn.commit_deadline - world.chain.height)
        world.chain.expect_ok(accuser, reveal)
        world.chain.skip(1)
        waiting = next(iter(set(who) - set(drawn.committee)))
        if not queries.count_seats(world.chain.state, waiting):
            continue
        events = [one for one in world.chain.skip(60) if getattr(one, "challenge", None) == drawn.challenge]
        postponed, contested = pick(events, DrawPostponed), pick(events, ChallengeContested)
        assert postponed
        assert contested[0].committee == (waiting,)
        assert events.index(postponed[-1]) < events.index(contested[0])
        return
    raise AssertionError("no draw seated the fourth verifier elsewhere")
