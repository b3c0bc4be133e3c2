"""Verdicts: commit, reveal, count (DESIGN 5.5, 5.6). A verdict is readable only after every verifier is bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from consensus.runtime.context import Environment
from consensus.runtime.inference import audits, contest, payments, seats, standing, timing
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_events import DeadlinesMoved
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
from consensus.runtime.inference.state import Challenge, DueKind, Reveal
from consensus.runtime.inference.tally import VerdictTally, compute_tally
from proto_specs.types.calls import CommitVerdict, Outcome, RevealVerdict
from proto_specs.types.verdict import EMPTY_FINGERPRINT, VerdictPreimage, compute_commitment


def commit_verdict(env: Environment, signer: bytes, call: CommitVerdict) -> None:
    """Commit to a verdict. Raises UnknownChallenge, NotOnCommittee, ChallengeClosed, AlreadyCommitted."""
    challenge = _read_open(env, signer, call.challenge)
    deadline = timing.extend(env.state, challenge).commit_deadline
    if env.block.height > deadline:
        raise ChallengeClosed(f"commitments were accepted until block {deadline}")
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
    deadline = timing.extend(state, challenge).commit_deadline
    if not all_committed and env.block.height <= deadline:
        raise TooEarly(f"others may commit until block {deadline}")
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
    seats.leave(state, signer, call.challenge)
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


def end_round(env: Environment, challenge_id: bytes) -> None:
    """At the reveal deadline: end the round, or wait for as long as blocks were too full for its verdicts."""
    challenge = _read_unresolved(env, challenge_id)
    moved = timing.extend(env.state, challenge)
    if moved.reveal_deadline <= env.block.height:
        resolve_challenge(env, challenge_id)
        return
    inference.challenges.write(env.state, challenge_id, moved)
    inference.due.add(env.state, moved.reveal_deadline, DueKind.REVEAL, challenge_id)
    blocks = moved.reveal_deadline - challenge.reveal_deadline
    env.emit(DeadlinesMoved(challenge_id, moved.commit_deadline, moved.reveal_deadline, blocks))


def resolve_challenge(env: Environment, challenge_id: bytes) -> None:
    """End a round, by its last reveal or at the reveal deadline. Another round may be ordered."""
    challenge = _read_unresolved(env, challenge_id)
    revealed = contest.read_revealed(env, challenge_id, challenge)
    tally = _count(env, challenge, revealed)
    if inference.audits.read(env.state, challenge_id) is None:
        standing.slash_silent(env, challenge_id, challenge, revealed)
        # A round that asks a narrower question of the same window would be ordered here, before it ends inconclusive.
        is_decided = tally.outcome != Outcome.INCONCLUSIVE
        if contest.order_round(env, challenge_id, challenge, revealed, is_decided=is_decided):
            return
    _conclude(env, challenge_id, challenge, revealed, tally)


def conclude_challenge(env: Environment, challenge_id: bytes) -> None:
    """Decide by the reveals so far, because no verifier is left for an ordered round."""
    challenge = _read_unresolved(env, challenge_id)
    revealed = contest.read_revealed(env, challenge_id, challenge)
    _conclude(env, challenge_id, challenge, revealed, _count(env, challenge, revealed))


def _read_unresolved(env: Environment, challenge_id: bytes) -> Challenge:
    challenge = inference.challenges.read(env.state, challenge_id)
    assert challenge is not None
    assert challenge.outcome is None, "a challenge is resolved once"
    return challenge


def _count(env: Environment, challenge: Challenge, revealed: Mapping[bytes, Reveal]) -> VerdictTally:
    params = inference.params.read(env.state)
    return compute_tally(params, challenge.committee, revealed, challenge.round_starts)


def _conclude(
    env: Environment,
    challenge_id: bytes,
    challenge: Challenge,
    revealed: Mapping[bytes, Reveal],
    tally: VerdictTally,
) -> None:
    """Close the challenge and let the outcome move the money."""
    state = env.state
    audit = inference.audits.read(state, challenge_id)
    resolved = replace(challenge, outcome=tally.outcome, distance_ppb=tally.distance_ppb)
    inference.challenges.write(state, challenge_id, resolved)
    for member in challenge.committee:
        seats.leave(state, member.verifier, challenge_id)
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
        return
    standing.score(env, challenge_id, challenge, revealed, tally)
    if tally.outcome == Outcome.PASS:
        payments.pay_stage(env, challenge.request, challenge.stage, challenge_id, tally.carriers)
    elif tally.outcome == Outcome.FAIL:
        payments.slash_stage(env, challenge.request, challenge.stage, challenge_id, tally.carriers)
    elif tally.outcome == Outcome.UNAVAILABLE:
        payments.charge_stage(env, challenge.request, challenge.stage, challenge_id, tally.carriers)
    else:
        payments.refund_unjudged(env, challenge.request, challenge.stage, is_suspect=tally.is_suspect)


def _read_open(env: Environment, signer: bytes, challenge_id: bytes) -> Challenge:
    challenge = inference.challenges.read(env.state, challenge_id)
    if challenge is None:
        raise UnknownChallenge(f"no challenge {challenge_id.hex()}")
    if all(member.verifier != signer for member in challenge.committee[challenge.round_start :]):
        raise NotOnCommittee("the beacon drew others")
    if challenge.outcome is not None:
        raise ChallengeClosed(f"resolved: {Outcome(challenge.outcome).name}")
    return challenge
