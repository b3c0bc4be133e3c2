"""Committees after the first: silence is paid for and replaced, nobody chooses the next committee, rounds end."""

from __future__ import annotations

import pytest

from consensus.runtime.balances.state import read_issuance
from consensus.runtime.inference import errors, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import ChallengeResolved, VerifierPaid, VerifierSilent
from consensus.runtime.inference.state import ROUNDS_MAX
from consensus.runtime.staking import state as staking
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime import chain
from tests.unit.consensus.runtime.inference.court import Court
from tests.unit.consensus.runtime.inference.inference_world import pick

STAKE = 100_000 * NMYL_PER_MYL


def test_attack_silence_of_two_thirds_does_not_save_a_cheater() -> None:
    """Two of three on the committee are the cheater's friends, and say nothing."""
    court = Court()
    honest, *friends = court.drawn.committee
    issuance = read_issuance(court.chain.state)
    events = court.judge(court.drawn.committee, [Outcome.FAIL, None, None])
    silent = pick(events, VerifierSilent)
    cost = STAKE * court.chain.spec.params.staking.downtime_slash_permille // 1000
    assert [(one.verifier, one.burned) for one in silent] == [(one, cost) for one in friends]
    assert [staking.read_stake(court.chain.state, one).bonded for one in friends] == [STAKE - cost] * 2
    assert staking.read_stake(court.chain.state, honest).bonded == STAKE
    assert read_issuance(court.chain.state) <= issuance - 2 * cost

    replacements = court.draw()
    assert len(replacements) == 2
    assert not set(replacements) & set(court.drawn.committee)
    assert [one.stake for one in court.read().committee] == [STAKE, 0, 0, STAKE, STAKE]
    commit, _ = court.world.verdict(court.drawn.challenge, court.who[friends[0]], Outcome.PASS)
    court.chain.expect_error(court.who[friends[0]], commit, errors.NotOnCommittee)
    events = court.judge(replacements, [Outcome.FAIL, Outcome.FAIL])
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.FAIL
    assert {one.verifier for one in pick(events, VerifierPaid)} == {honest, *replacements}


def test_attack_unbonding_after_the_draw_does_not_escape_the_cost() -> None:
    court = Court()
    leaver = next(one for one in map(court.who.__getitem__, court.drawn.committee) if one != court.chain.proposer)
    court.chain.expect_ok(leaver, calls.Unbond(STAKE))
    events = court.skip(court.read().reveal_deadline - court.chain.height)
    assert leaver.account in {one.verifier for one in pick(events, VerifierSilent)}
    left = STAKE
    for _ in range(
        inference.silences.read(court.chain.state, leaver.account) or 0
    ):  # more than one where the draw gave it a seat in another challenge as well
        left -= left * court.chain.spec.params.staking.downtime_slash_permille // 1000
    assert sum(one.amount for one in staking.read_stake(court.chain.state, leaver.account).unbonding) == left < STAKE


def test_who_commits_and_does_not_reveal_is_silent_too() -> None:
    court = Court()
    liar = court.who[court.drawn.committee[0]]
    commit, _ = court.world.verdict(court.drawn.challenge, liar, Outcome.PASS)
    court.chain.expect_ok(liar, commit)
    events = court.skip(court.read().reveal_deadline - court.chain.height)
    assert [one.verifier for one in pick(events, VerifierSilent)] == list(court.drawn.committee)


def test_between_order_and_draw_nobody_sits() -> None:
    court = Court()
    court.judge(court.drawn.committee, [Outcome.FAIL, None, None])
    for account in court.who:
        assert not [
            one for one, _ in queries.list_open_challenges(court.chain.state, account) if one == court.drawn.challenge
        ]
    commit, _ = court.world.verdict(court.drawn.challenge, court.who[court.drawn.committee[1]], Outcome.PASS)
    court.chain.expect_error(court.who[court.drawn.committee[1]], commit, errors.NotOnCommittee)


def test_silence_is_bounded_and_ends_without_a_verdict() -> None:
    court = Court(committee_size=2)
    committee, seen = tuple(court.drawn.committee), list[bytes]()
    for number in range(ROUNDS_MAX):
        seen += committee
        events = court.judge(committee, [None, None])
        assert len(pick(events, VerifierSilent)) == 2
        if number < ROUNDS_MAX - 1:
            committee = court.draw()
    assert len(set(seen)) == 2 * ROUNDS_MAX, "nobody sits twice"
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.INCONCLUSIVE
    assert court.read().outcome == Outcome.INCONCLUSIVE


def test_a_minority_convicts_nobody_where_the_silent_cannot_be_replaced() -> None:
    court = Court(committee_size=8, fails_min=1)
    events = court.judge(court.drawn.committee, [Outcome.FAIL] * 5 + [None] * 3)
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.INCONCLUSIVE, "5 of 8"
    court = Court(committee_size=7, fails_min=1)
    court.judge(court.drawn.committee, [Outcome.FAIL] * 3 + [None] * 4)
    (last,) = court.draw()
    assert [one.stake for one in court.read().committee].count(0) == 1
    events = court.judge([last], [Outcome.FAIL])
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.INCONCLUSIVE, "4 of 7"


def test_a_round_that_finds_nobody_is_decided_by_what_was_revealed() -> None:
    court = Court(committee_size=7)
    (spare,) = set(court.who) - set(court.drawn.committee)
    court.judge(court.drawn.committee, [Outcome.FAIL] * 4 + [None] * 3)
    del court.chain.state.items[inference.verifiers.key(court.world.model, spare)]
    assert pick(court.skip(2), ChallengeResolved)[0].outcome == Outcome.INCONCLUSIVE, "4 of 7"


@pytest.mark.parametrize("outcomes", [(Outcome.PASS, Outcome.FAIL, Outcome.FAIL), (Outcome.FAIL, None, None)])
def test_attack_the_last_reveal_s_proposer_cannot_choose_the_next_committee(
    outcomes: tuple[Outcome | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """He tries beacons for his block; only that of two blocks later, which he cannot know, makes a difference."""
    honest = chain.compute_beacon

    def run(delay: int, seed: int) -> tuple[bytes, ...]:
        court = Court(fails_min=3)
        last = court.read().commit_deadline + 1 if None in outcomes else court.chain.height + 6
        ground = hash_tagged(Tag.BEACON, bytes([seed]))
        with monkeypatch.context() as patch:
            patch.setattr(chain, "compute_beacon", lambda at: ground if at == last + delay else honest(at))
            court.judge(court.drawn.committee, outcomes)
            assert court.chain.height == last
            return court.draw()

    for delay in (0, 1):
        assert len({run(delay, seed) for seed in range(5)}) == 1
    assert len({run(2, seed) for seed in range(5)}) > 1
