"""Verdicts: commit, reveal, count (DESIGN 5.5, 5.6). A verdict is readable only after every verifier is bound."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from consensus.runtime.context import Environment
from consensus.runtime.inference import audits, contest, payments
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import (
    AlreadyCommitted,
    AlreadyRevealed,
    ChallengeClosed,
    InconsistentVerdict,
    NotCommitted,
    NotOnCommittee,
    TooEarly,
    UnknownChallenge,
    WrongReveal,
)
from consensus.runtime.inference.events import ChallengeResolved, VerdictCommitted, VerdictRevealed
from consensus.runtime.inference.state import Challenge, CommitteeMember, DueKind, InferenceParams, Reveal
from proto_specs.limits import FINGERPRINT_DIMENSIONS, FINGERPRINT_TOLERANCE_PPB
from proto_specs.types.calls import CommitVerdict, Outcome, RevealVerdict
from proto_specs.types.verdict import EMPTY_FINGERPRINT, VerdictPreimage, compute_commitment

_PPB_SQUARED = 10**18


def commit_verdict(env: Environment, signer: bytes, call: CommitVerdict) -> None:
    """Commit to a verdict. Raises UnknownChallenge, NotOnCommittee, ChallengeClosed, AlreadyCommitted."""
    challenge = _read_open(env, signer, call.challenge)
    if env.block.height > challenge.commit_deadline:
        raise ChallengeClosed(f"commitments were accepted until block {challenge.commit_deadline}")
    if inference.commitments.read(env.state, call.challenge, signer) is not None:
        raise AlreadyCommitted("a verdict is committed once")
    inference.commitments.write(env.state, call.challenge, signer, call.commitment)
    inference.challenges.write(env.state, call.challenge, replace(challenge, committed=challenge.committed + 1))
    env.emit(VerdictCommitted(call.challenge, signer))


def reveal_verdict(env: Environment, signer: bytes, call: RevealVerdict) -> None:
    """Reveal a committed verdict; the last reveal resolves the challenge.

    Raises UnknownChallenge, NotOnCommittee, ChallengeClosed, NotCommitted, AlreadyRevealed, TooEarly, WrongReveal,
    InconsistentVerdict.
    """
    state = env.state
    challenge = _read_open(env, signer, call.challenge)
    commitment = inference.commitments.read(state, call.challenge, signer)
    if commitment is None:
        raise NotCommitted("commit first")
    if inference.reveals.read(state, call.challenge, signer) is not None:
        raise AlreadyRevealed("a verdict is revealed once")
    all_committed = challenge.committed == len(challenge.committee) - challenge.round_start
    if not all_committed and env.block.height <= challenge.commit_deadline:
        raise TooEarly(f"others may commit until block {challenge.commit_deadline}")
    preimage = VerdictPreimage(
        challenge=call.challenge,
        verifier=signer,
        outcome=call.outcome,
        distance_ppb=call.distance_ppb,
        token_mismatches=call.token_mismatches,
        fingerprint=call.fingerprint,
        salt=call.salt,
    )
    if compute_commitment(preimage) != commitment:
        raise WrongReveal("not what was committed to")
    reveal = Reveal(call.outcome, call.distance_ppb, call.token_mismatches, call.fingerprint)
    validate_verdict(reveal, challenge.threshold_ppb)
    inference.reveals.write(state, call.challenge, signer, reveal)
    inference.open_challenges.remove(state, signer, call.challenge)
    counted = replace(challenge, revealed=challenge.revealed + 1)
    inference.challenges.write(state, call.challenge, counted)
    env.emit(
        VerdictRevealed(
            challenge=call.challenge,
            verifier=signer,
            outcome=reveal.outcome,
            distance_ppb=reveal.distance_ppb,
            threshold_ppb=challenge.threshold_ppb,
            token_mismatches=reveal.token_mismatches,
        )
    )
    if counted.revealed == counted.committed:
        resolve_challenge(env, call.challenge)


def validate_verdict(reveal: Reveal, threshold_ppb: int) -> None:
    """Raises InconsistentVerdict when the outcome contradicts its numbers. Verifiers check this before they commit."""
    is_far = reveal.distance_ppb > threshold_ppb or reveal.token_mismatches > 0
    is_computed = reveal.fingerprint != EMPTY_FINGERPRINT
    if reveal.outcome == Outcome.PASS:
        if is_far or not is_computed:
            raise InconsistentVerdict("a pass has a fingerprint, a distance within the threshold and no wrong token")
    elif reveal.outcome == Outcome.FAIL:
        if not is_far:
            raise InconsistentVerdict("a fail has a distance above the threshold or a wrong token")
    elif reveal.outcome in (Outcome.UNAVAILABLE, Outcome.INCONCLUSIVE):
        if reveal.distance_ppb or reveal.token_mismatches or is_computed:
            raise InconsistentVerdict("without a comparison there are no numbers")
    else:
        raise InconsistentVerdict(f"unknown outcome {reveal.outcome}")


def resolve_challenge(env: Environment, challenge_id: bytes) -> None:
    """End a round, by its last reveal or at the reveal deadline. Without a verdict another round may be ordered."""
    challenge = _read_unresolved(env, challenge_id)
    revealed = contest.read_revealed(env, challenge_id, challenge)
    tally = _count(env, challenge, revealed)
    if inference.audits.read(env.state, challenge_id) is None:
        contest.slash_silent(env, challenge_id, challenge, revealed)
        if tally.outcome == Outcome.INCONCLUSIVE and contest.order_round(env, challenge_id, challenge, revealed):
            return
    _conclude(env, challenge_id, challenge, tally)


def conclude_challenge(env: Environment, challenge_id: bytes) -> None:
    """Decide by the reveals so far, because no verifier is left for an ordered round."""
    challenge = _read_unresolved(env, challenge_id)
    _conclude(env, challenge_id, challenge, _count(env, challenge, contest.read_revealed(env, challenge_id, challenge)))


def _read_unresolved(env: Environment, challenge_id: bytes) -> Challenge:
    challenge = inference.challenges.read(env.state, challenge_id)
    assert challenge is not None
    assert challenge.outcome is None, "a challenge is resolved once"
    return challenge


def _count(env: Environment, challenge: Challenge, revealed: Mapping[bytes, Reveal]) -> VerdictTally:
    params = inference.params.read(env.state)
    return compute_tally(params, challenge.committee, revealed, challenge.round_starts)


def _conclude(env: Environment, challenge_id: bytes, challenge: Challenge, tally: VerdictTally) -> None:
    """Close the challenge and let the outcome move the money."""
    state = env.state
    audit = inference.audits.read(state, challenge_id)
    resolved = replace(challenge, outcome=tally.outcome, distance_ppb=tally.distance_ppb)
    inference.challenges.write(state, challenge_id, resolved)
    for member in challenge.committee:
        inference.open_challenges.remove(state, member.verifier, challenge_id)
    inference.due.remove(state, challenge.reveal_deadline, DueKind.REVEAL, challenge_id)
    env.emit(
        ChallengeResolved(
            challenge=challenge_id,
            request=challenge.request,
            stage=challenge.stage,
            worker=challenge.worker,
            outcome=tally.outcome,
            distance_ppb=tally.distance_ppb,
            threshold_ppb=challenge.threshold_ppb,
        )
    )
    if audit is not None:
        audits.resolve(env, challenge_id, audit, tally.outcome, tally.carriers)
    elif tally.outcome == Outcome.PASS:
        payments.pay_stage(env, challenge.request, challenge.stage, challenge_id, tally.carriers)
    elif tally.outcome == Outcome.FAIL:
        payments.slash_stage(env, challenge.request, challenge.stage, challenge_id, tally.carriers)
    else:
        is_unavailable = tally.outcome == Outcome.UNAVAILABLE
        payments.refund_stage(env, challenge.request, challenge.stage, is_unavailable=is_unavailable)


@dataclass(frozen=True, slots=True)
class VerdictTally:
    """The committee's result: the outcome, its carriers (in committee order), and their largest distance."""

    outcome: Outcome
    carriers: tuple[bytes, ...]
    distance_ppb: int


def compute_tally(
    params: InferenceParams,
    committee: tuple[CommitteeMember, ...],
    reveals: Mapping[bytes, Reveal],
    round_starts: tuple[int, ...] = (),
) -> VerdictTally:
    """Count by the stake of the WHOLE committee except replaced members: silence does not consent.

    fail: at least `fails_min` fails, with two thirds of the stake; pass and unavailable: two thirds; else inconclusive.
    A pass or fail counts only when its fingerprint agrees with more than half (by stake) of those of the same
    outcome and round: each round's fingerprints have their own seed. Later rounds begin at `round_starts`.
    """
    total = sum(member.stake for member in committee)
    for outcome in (Outcome.FAIL, Outcome.PASS, Outcome.UNAVAILABLE):
        voters = []
        for start, end in pairwise((0, *round_starts, len(committee))):
            agreed = [
                one
                for one in committee[start:end]
                if one.verifier in reveals and reveals[one.verifier].outcome == outcome
            ]
            if outcome != Outcome.UNAVAILABLE:
                agreed = _drop_outliers(agreed, reveals)
            voters += agreed
        if outcome == Outcome.FAIL and len(voters) < params.fails_min:
            continue
        if voters and 3 * sum(one.stake for one in voters) >= 2 * total:
            carriers = tuple(one.verifier for one in voters)
            return VerdictTally(outcome, carriers, max(reveals[one].distance_ppb for one in carriers))
    return VerdictTally(Outcome.INCONCLUSIVE, (), 0)


def is_fingerprint_match(first: bytes, second: bytes, tolerance_ppb: int = FINGERPRINT_TOLERANCE_PPB) -> bool:
    """Whether two fingerprints (int32, little-endian) are within a tolerance of each other, by integers alone.

    sum((a - b)^2) x 10^18 <= tolerance_ppb^2 x min(sum(a^2), sum(b^2)). Equal ones match, all zeros match only zeros.
    """
    if first == second:
        return True
    shape = f"<{FINGERPRINT_DIMENSIONS}i"
    a, b = struct.unpack(shape, first), struct.unpack(shape, second)
    difference: int = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    scale: int = min(sum(x * x for x in a), sum(y * y for y in b))
    return difference * _PPB_SQUARED <= tolerance_ppb * tolerance_ppb * scale


def _drop_outliers(voters: list[CommitteeMember], reveals: Mapping[bytes, Reveal]) -> list[CommitteeMember]:
    """The voters whose fingerprint agrees with those of more than half the voters' stake, their own included."""
    prints = [reveals[one.verifier].fingerprint for one in voters]
    agreeing = [one.stake for one in voters]
    for i, j in combinations(range(len(voters)), 2):
        if is_fingerprint_match(prints[i], prints[j]):
            agreeing[i] += voters[j].stake
            agreeing[j] += voters[i].stake
    stake = sum(one.stake for one in voters)
    return [one for one, agreed in zip(voters, agreeing, strict=True) if 2 * agreed > stake]


def _read_open(env: Environment, signer: bytes, challenge_id: bytes) -> Challenge:
    challenge = inference.challenges.read(env.state, challenge_id)
    if challenge is None:
        raise UnknownChallenge(f"no challenge {challenge_id.hex()}")
    if all(member.verifier != signer for member in challenge.committee[challenge.round_start :]):
        raise NotOnCommittee("the beacon drew others")
    if challenge.outcome is not None:
        raise ChallengeClosed(f"resolved: {Outcome(challenge.outcome).name}")
    return challenge
