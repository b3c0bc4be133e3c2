"""The verdicts of several verifiers about one challenge: who convicts, who is paid, who does not count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.events import (
    ChallengeResolved,
    VerifierPaid,
    WorkerSlashed,
)
from consensus.runtime.inference.state import CommitteeMember, Reveal
from consensus.runtime.inference.tally import compute_tally, is_fingerprint_match
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types.calls import Outcome
from tests.unit.consensus.runtime.inference.inference_world import (
    FINGERPRINT,
    VERIFICATION,
    World,
    build_spec,
    pick,
)

THREE = ("alice", "eve", "ferdie")

OTHER_FINGERPRINT = bytes([9, 1, 0, 0] * (FINGERPRINT_BYTES // 4))


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
    split = ({"outcome": Outcome.PASS}, {"outcome": Outcome.UNAVAILABLE}, {"outcome": Outcome.INCONCLUSIVE})
    events = Committee().vote(*split)
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


def test_tally_counts_the_stake_of_the_silent() -> None:
    params = build_spec(committee_size=3, fails_min=1).params.inference
    committee = tuple(CommitteeMember(bytes([index]) * 32, stake) for index, stake in enumerate((66, 1, 33)))
    reveal = Reveal(Outcome.PASS, 5, 0, FINGERPRINT)
    first = compute_tally(params, committee, {committee[0].verifier: reveal})
    assert first.outcome == Outcome.INCONCLUSIVE
    both = {committee[0].verifier: reveal, committee[1].verifier: replace(reveal, distance_ppb=9)}
    second = compute_tally(params, committee, both)
    assert (second.outcome, second.distance_ppb) == (Outcome.PASS, 9)


def test_a_fail_needs_independent_accusers_however_rich_one_is() -> None:
    params = build_spec(committee_size=3, fails_min=2).params.inference
    committee = tuple(CommitteeMember(bytes([index]) * 32, stake) for index, stake in enumerate((70, 15, 15)))
    fail = Reveal(Outcome.FAIL, 900_000, 0, FINGERPRINT)
    alone = compute_tally(params, committee, {committee[0].verifier: fail})
    assert alone.outcome == Outcome.INCONCLUSIVE
    seconded = {committee[0].verifier: fail, committee[1].verifier: fail}
    assert compute_tally(params, committee, seconded).outcome == Outcome.FAIL


def test_fingerprints_match_within_the_threshold() -> None:
    def scaled(value: int) -> bytes:
        return value.to_bytes(4, "little", signed=True) * 256

    assert is_fingerprint_match(scaled(1_000_000), scaled(1_000_030), 30_000)
    assert not is_fingerprint_match(scaled(1_000_000), scaled(1_000_031), 30_000)
    assert not is_fingerprint_match(scaled(1_000_000), scaled(-1_000_000), 30_000)
    assert is_fingerprint_match(scaled(-7), scaled(-7), 0)
    assert not is_fingerprint_match(scaled(0), scaled(1), 999_999_999)
