"""A third of a committee keeps a verdict from being found, or verifies nothing and is paid: what either costs now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consensus.runtime.inference import contest, queries
from consensus.runtime.inference.committee_events import DepositForfeited, VerifierMissed, WorkerCharged
from consensus.runtime.inference.events import ChallengeResolved, VerifierPaid, WorkerSlashed
from consensus.runtime.staking import state as staking
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types.calls import Outcome
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.inference.court import Court
from tests.unit.consensus.runtime.inference.inference_world import FINGERPRINT, pick

STAKE = 100_000 * NMYL_PER_MYL
MADE_UP = bytes([9, 1, 0, 0] * (FINGERPRINT_BYTES // 4))
FAIL, PASS, UNAVAILABLE, UNSURE = Outcome.FAIL, Outcome.PASS, Outcome.UNAVAILABLE, Outcome.INCONCLUSIVE


def vote(court: Court, committee: Sequence[bytes], votes: Sequence[tuple[Outcome, bytes | None]]) -> list[Any]:
    """All commit, then all reveal: the challenge's events."""
    ballots = []
    for account, (outcome, fingerprint) in zip(committee, votes, strict=True):
        who = court.who[account]
        ballots.append((who, *court.world.verdict(court.drawn.challenge, who, outcome, fingerprint=fingerprint)))
    for who, commit, _ in ballots:
        court.chain.expect_ok(who, commit)
    events: list[Any] = []
    for who, _, reveal in ballots:
        events += court.chain.expect_ok(who, reveal).events
    return court.pick_own(events)


def count_only_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: of those who do not count only the silent are replaced."""
    monkeypatch.setattr(contest, "list_counted", lambda committee, revealed, starts: dict.fromkeys(revealed, PASS))


def test_it_ended_without_slash_round_or_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    count_only_silence(monkeypatch)
    court = Court(fails_min=3)
    events = court.judge(court.drawn.committee, [FAIL, FAIL, UNSURE])
    assert pick(events, ChallengeResolved)[0].outcome == UNSURE


def test_who_finds_nothing_is_replaced_and_the_cheat_convicted() -> None:
    court = Court(fails_min=3)
    friend = court.drawn.committee[2]
    assert not pick(court.judge(court.drawn.committee, [FAIL, FAIL, UNSURE]), ChallengeResolved)
    (fresh,) = court.draw()
    events = court.judge([fresh], [FAIL])
    assert pick(events, ChallengeResolved)[0].outcome == FAIL
    assert [one.verifier for one in pick(events, VerifierMissed)] == [friend]
    assert queries.read_standing(court.chain.state, friend).misses == 1


def test_it_is_charged_where_it_is_a_habit() -> None:
    """The friend's seats all go wrong, an honest one's as a rule do not."""
    court = Court(fails_min=3, miss_points=5, miss_points_max=4)
    friend = court.drawn.committee[2]
    court.judge(court.drawn.committee, [FAIL, FAIL, UNSURE])
    (missed,) = pick(court.judge(court.draw(), [FAIL]), VerifierMissed)
    cost = STAKE * court.chain.spec.params.staking.downtime_slash_permille // 1_000
    assert (missed.verifier, missed.points, missed.burned) == (friend, 4, cost)
    assert staking.read_stake(court.chain.state, friend).bonded == STAKE - cost


def test_a_pass_with_a_made_up_fingerprint_is_scored() -> None:
    """It never was: who computes nothing went on until it was seated with its like."""
    court = Court()
    lazy = court.drawn.committee[1]
    events = vote(court, court.drawn.committee, [(PASS, None), (PASS, MADE_UP), (PASS, None)])
    assert pick(events, ChallengeResolved)[0].outcome == PASS
    assert lazy not in {one.verifier for one in pick(events, VerifierPaid)}
    assert [one.verifier for one in pick(events, VerifierMissed)] == [lazy]


@pytest.mark.parametrize(("lie", "truth"), [(PASS, FAIL), (FAIL, PASS)])
def test_two_friends_of_three_decide_nothing_by_themselves(lie: Outcome, truth: Outcome) -> None:
    """To acquit a cheat, or to convict a rival and share the bounty: one honest member brings four more."""
    court = Court()
    *friends, honest = court.drawn.committee
    assert not pick(court.judge(court.drawn.committee, [lie, lie, truth]), ChallengeResolved)
    fresh = court.draw()
    assert len(fresh) == 4
    events = court.judge(fresh, [truth] * 4)
    assert pick(events, ChallengeResolved)[0].outcome == truth
    assert {one.verifier for one in pick(events, VerifierPaid)} == {honest, *fresh}
    assert [one.verifier for one in pick(events, VerifierMissed)] == friends


def test_they_did_when_only_the_undecided_was_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: two of three seats, which a third of the stake has in 26 of 100 draws."""
    honest = contest.order_round
    monkeypatch.setattr(
        contest, "order_round", lambda *args, is_decided: not is_decided and honest(*args, is_decided=False)
    )
    court = Court()
    events = court.judge(court.drawn.committee, [PASS, PASS, FAIL])
    assert pick(events, ChallengeResolved)[0].outcome == PASS


def test_a_made_up_fingerprint_does_not_save_the_cheat() -> None:
    court = Court(fails_min=3)
    assert not pick(
        vote(court, court.drawn.committee, [(FAIL, None), (FAIL, MADE_UP), (FAIL, FINGERPRINT)]), ChallengeResolved
    )
    (fresh,) = court.draw()
    events = court.judge([fresh], [FAIL])
    assert pick(events, ChallengeResolved)[0].outcome == FAIL
    assert [one.verifier for one in pick(events, VerifierMissed)] == [court.drawn.committee[1]]


def test_opening_wrong_work_to_half_of_the_committee_is_no_way_out() -> None:
    """Two see the wrong rows, two see nothing: neither reached two thirds, and the cheat lost its price alone."""
    court = Court(committee_size=4, fails_min=2)
    events = court.judge(court.drawn.committee, [FAIL, FAIL, UNAVAILABLE, UNAVAILABLE])
    assert pick(events, ChallengeResolved)[0].outcome == UNAVAILABLE
    assert {one.verifier for one in pick(events, VerifierPaid)} == set(court.drawn.committee)
    assert not pick(events, VerifierMissed)
    worker = queries.read_worker(court.chain.state, court.drawn.worker)
    assert worker is not None
    assert worker.unavailable == 1


def test_what_nobody_can_judge_ends_at_once_and_costs_only_who_brought_it() -> None:
    court = Court()
    verifiers = [queries.read_standing(court.chain.state, one) for one in court.drawn.committee]
    settler = court.chain.free(court.world.workers[0])
    receipts: list[Any] = []
    for account in court.drawn.committee:
        commit, reveal = court.world.verdict(court.drawn.challenge, court.who[account], UNSURE)
        court.chain.expect_ok(court.who[account], commit)
        receipts.append((court.who[account], reveal))
    events: list[Any] = []
    for who, reveal in receipts:
        events += court.chain.expect_ok(who, reveal).events
    assert pick(events, ChallengeResolved)[0].outcome == UNSURE
    (forfeited,) = pick(events, DepositForfeited)
    assert forfeited.amount == court.chain.spec.params.inference.verification_deposit
    assert court.chain.free(court.world.workers[0]) == settler, "it was held since the settlement"
    assert not pick(events, VerifierPaid), "or they would rather find nothing"
    assert [queries.read_standing(court.chain.state, one) for one in court.drawn.committee] == verifiers


def test_a_fail_that_nobody_is_left_to_second_has_an_end() -> None:
    """Refund, probation, no slash: worker, settler and committee gain nothing, who was silent has paid."""
    court = Court(committee_size=8, fails_min=3)
    client = court.chain.free(court.world.client)
    events = court.judge(court.drawn.committee, [FAIL, FAIL, *[None] * 6])
    assert pick(events, ChallengeResolved)[0].outcome == UNSURE
    assert not pick(events, WorkerSlashed)
    assert not pick(events, WorkerCharged)
    worker = queries.read_worker(court.chain.state, court.drawn.worker)
    assert worker is not None
    assert worker.proven == 0
    assert court.chain.free(court.world.client) > client


@pytest.mark.parametrize(("share", "lazy_pays", "honest_pays"), [(0.2, True, False), (1 / 3, True, False)])
def test_how_many_lazy_ones_it_takes_to_score_the_honest(share: float, lazy_pays: bool, honest_pays: bool) -> None:
    """In committees of three, lazy ones agree with each other. Points drift up where misses are above 1 in 6."""
    points = Court().chain.spec.params.inference.miss_points
    lazy, honest = (1 - share) ** 2, share**2
    assert (lazy * points > 1 - lazy) == lazy_pays
    assert (honest * points > 1 - honest) == honest_pays
