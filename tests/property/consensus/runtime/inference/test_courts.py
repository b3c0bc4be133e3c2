"""Random committees: whatever they vote, whenever, money is conserved, no honest carrier pays, and everything ends.

Money, seats and exposure are checked after each block by `chain.check_invariants`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import queries
from consensus.runtime.inference.committee_events import VerifierMissed, WorkerCharged
from consensus.runtime.inference.events import ChallengeDrawn, ChallengeResolved, VerifierPaid, WorkerSlashed
from consensus.runtime.inference.state import CommitteeMember, Reveal
from consensus.runtime.inference.tally import compute_tally, list_counted
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types.calls import Outcome
from tests.unit.consensus.runtime.inference.inference_world import FINGERPRINT, World, build_spec, pick

NAMES = ("alice", "eve", "ferdie", "george", "heidi")
MADE_UP = bytes([9, 1, 0, 0] * (FINGERPRINT_BYTES // 4))
votes = st.none() | st.tuples(st.sampled_from(list(Outcome)), st.booleans())
"""Silence, or an outcome and whether its fingerprint, if it has one, is the honest one."""


class Hall:
    """A world in which the votes of each round are the next ones of a list, silence when it is empty."""

    def __init__(self, ballots: list[Any], **params: int) -> None:
        self.world = World(NAMES, **params)
        self.who = {one.account: one for one in self.world.verifiers}
        self.ballots, self.events = list(ballots), list[Any]()
        self.kept = dict[tuple[bytes, bytes], Any]()

    def step(self) -> None:
        """Every open seat votes: commitments at once, reveals when they may be."""
        state, chain = self.world.chain.state, self.world.chain
        for account, verifier in self.who.items():
            for challenge_id, challenge in queries.list_open_challenges(state, account):
                if chain.height >= challenge.commit_deadline:
                    continue
                if queries.read_commitment(state, challenge_id, account) is not None or not self.ballots:
                    continue
                ballot = self.ballots.pop()
                if ballot is not None:
                    self.submit(verifier, self.make(challenge_id, verifier, *ballot)[0])
                    self.kept[challenge_id, account] = ballot
        self.skip(1)
        for (challenge_id, account), ballot in list(self.kept.items()):
            challenge_now = queries.read_challenge(state, challenge_id)
            if challenge_now is None or challenge_now.outcome is not None:
                del self.kept[challenge_id, account]
            elif chain.height >= challenge_now.commit_deadline:
                self.submit(self.who[account], self.make(challenge_id, self.who[account], *ballot)[1])
                del self.kept[challenge_id, account]

    def make(self, challenge: bytes, verifier: Any, outcome: Outcome, is_honest: bool) -> tuple[Any, Any]:
        """Commitment and reveal."""
        has_print = outcome in (Outcome.PASS, Outcome.FAIL)
        fingerprint = (FINGERPRINT if is_honest else MADE_UP) if has_print else None
        return self.world.verdict(challenge, verifier, outcome, fingerprint=fingerprint)

    def submit(self, who: Any, call: Any) -> None:
        """One block with one call, which may fail."""
        receipt = self.world.chain.submit(who, call)
        assert self.world.chain.last is not None
        self.events += [*self.world.chain.last.events.initialize, *receipt.events]

    def skip(self, blocks: int) -> None:
        """Empty blocks."""
        self.events += self.world.chain.skip(blocks)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ballots=st.lists(votes, max_size=60),
    requests=st.integers(1, 3),
    size=st.integers(1, 4),
    cap=st.integers(1, 6),
    points=st.integers(0, 3),
)
def test_every_court_ends_and_no_money_is_lost(
    ballots: list[Any], requests: int, size: int, cap: int, points: int
) -> None:
    hall = Hall(
        ballots,
        committee_size=size,
        fails_min=min(size, 2),
        contest_committee_size=2,
        open_challenges_max=cap,
        postpone_blocks=2,
        postpone_max=4,
        commit_blocks=4,
        reveal_blocks=12,
        worker_unbonding_blocks=30,
        retention_blocks=5,
        session_expiry_blocks=400,
        miss_points=points,
        miss_points_max=2,
        committee_stake_permille=0,
        unavailable_min=1_000,
        worker_jail_blocks=4,
    )
    for sequence in range(requests):
        hall.submit(hall.world.workers[0], hall.world.settle(sequence))
    for _ in range(40):
        hall.step()
    hall.skip(150)
    state = hall.world.chain.state
    for name in (b"challenge", b"open_challenge", b"request", b"postponed", b"verification_deposit", b"seat_count"):
        assert not list(state.iterate(b"inference." + name + b":")), name
    assert not list(committees.round_delays.iterate(state))
    resolved = pick(hall.events, ChallengeResolved)
    assert len(resolved) == len({one.challenge for one in resolved}) == len(pick(hall.events, ChallengeDrawn))
    for one in pick(hall.events, VerifierMissed):
        paid = {(paid.challenge, paid.verifier) for paid in pick(hall.events, VerifierPaid)}
        assert (one.challenge, one.verifier) not in paid, "who carried a verdict did not miss it"
    blamed = [one for one in resolved if one.outcome in (Outcome.FAIL, Outcome.UNAVAILABLE)]
    assert len(blamed) == len(pick(hall.events, WorkerSlashed)) + len(pick(hall.events, WorkerCharged))
    for charged in pick(hall.events, WorkerCharged):
        assert charged.amount == charged.bounty + charged.burned


reveals = st.tuples(st.sampled_from(list(Outcome)), st.sampled_from((FINGERPRINT, MADE_UP)))


@given(
    seats=st.lists(st.tuples(st.integers(1, 100), st.none() | reveals), min_size=1, max_size=12),
    cut=st.integers(0, 12),
    fails_min=st.integers(1, 4),
)
def test_a_verdict_has_two_thirds_whoever_is_silent(seats: list[Any], cut: int, fails_min: int) -> None:
    params = build_spec(committee_size=4, fails_min=fails_min).params.inference
    committee = tuple(CommitteeMember(bytes([index]) * 32, stake) for index, (stake, _) in enumerate(seats))
    revealed = {
        member.verifier: Reveal(vote[0], 0, 0, vote[1])
        for member, (_, vote) in zip(committee, seats, strict=True)
        if vote is not None
    }
    starts = (cut,) if 0 < cut < len(committee) else ()
    tally = compute_tally(params, committee, revealed, starts)
    counted = list_counted(committee, revealed, starts)
    assert set(tally.carriers) <= set(counted) <= set(revealed)
    total = sum(one.stake for one in committee)
    carried = sum(one.stake for one in committee if one.verifier in tally.carriers)
    if tally.outcome == Outcome.INCONCLUSIVE:
        assert not tally.carriers
    else:
        assert 3 * carried >= 2 * total
        assert tally.outcome == Outcome.PASS or len(tally.carriers) >= fails_min
    passing = {one for one, outcome in counted.items() if outcome == Outcome.PASS}
    if tally.outcome in (Outcome.FAIL, Outcome.UNAVAILABLE):
        assert not passing & set(tally.carriers), "a pass never helps to blame"
    for one in list(revealed):
        fewer = compute_tally(params, committee, {key: vote for key, vote in revealed.items() if key != one}, starts)
        if fewer.outcome != Outcome.INCONCLUSIVE and tally.outcome != Outcome.INCONCLUSIVE:
            assert (fewer.outcome == Outcome.PASS) == (tally.outcome == Outcome.PASS)
