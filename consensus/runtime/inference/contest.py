"""A challenge without a verdict goes to more verifiers (DESIGN 5.6). Economics first:

- a worker about to be convicted could have friends on its committee contradict or stay silent: two thirds of the
  stake are then never reached, and nothing is slashed without a verdict. So a contradiction brings a larger
  committee, once, and silent members are replaced; `ROUNDS_MAX` bounds the rounds;
- silence costs a verifier `downtime_slash_permille` of its own stake, bonded or unbonding, each time, as absence costs
  a validator. Missing the commitment and missing the reveal cost the same;
- a later round is ordered in block h and drawn by the beacon of h + 2, like the first: the proposer of the block with
  the last reveal knows how the vote stands, but cannot choose the beacon and with it the committee.

Each round has a beacon of its own: fingerprints of earlier rounds are public and could be copied under an old seed.
All rounds are counted together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.context import Environment
from consensus.runtime.inference import draws, payments
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import ChallengeContested, VerifierSilent
from consensus.runtime.inference.state import (
    DRAW_DELAY_BLOCKS,
    ROUNDS_MAX,
    Challenge,
    CommitteeMember,
    DueKind,
    InferenceParams,
    Reveal,
)
from consensus.runtime.staking import slashing
from consensus.runtime.staking import state as staking
from proto_specs.limits import COMMITTEE_MAX
from proto_specs.types.calls import Outcome
from proto_specs.types.chain import Validator


def read_revealed(env: Environment, challenge_id: bytes, challenge: Challenge) -> dict[bytes, Reveal]:
    """The reveals of all rounds, by verifier, in committee order."""
    found = (
        (one.verifier, inference.reveals.read(env.state, challenge_id, one.verifier)) for one in challenge.committee
    )
    return {who: reveal for who, reveal in found if reveal is not None}


def slash_silent(env: Environment, challenge_id: bytes, challenge: Challenge, revealed: Mapping[bytes, Reveal]) -> None:
    """Slash each member of this round that had the time to reveal and did not."""
    permille = staking.read_params(env.state).downtime_slash_permille
    for member in challenge.committee[challenge.round_start :]:
        who = member.verifier
        if who in revealed:
            continue
        count = (inference.silences.read(env.state, who) or 0) + 1
        inference.silences.write(env.state, who, count)
        burned = slashing.slash_stake(env, who, challenge.drawn_height, permille, PERMILLE)
        env.emit(VerifierSilent(challenge_id, who, count, burned))


def order_round(env: Environment, challenge_id: bytes, challenge: Challenge, revealed: Mapping[bytes, Reveal]) -> bool:
    """Schedule the draw of one more round. False when none is needed or allowed, or no verifier is left for it."""
    state, params = env.state, inference.params.read(env.state)
    if len(challenge.round_starts) + 1 >= ROUNDS_MAX:
        return False
    contested, silent = compute_vacancies(params, challenge, revealed)
    if not contested + len(silent) or not _list_fresh(env, challenge):
        return False
    for member in challenge.committee:
        inference.open_challenges.remove(state, member.verifier, challenge_id)
    inference.due.remove(state, challenge.reveal_deadline, DueKind.REVEAL, challenge_id)
    drawn_height = env.block.height + DRAW_DELAY_BLOCKS
    commit_deadline = drawn_height + params.commit_blocks
    ordered = replace(
        challenge,
        drawn_height=drawn_height,
        commit_deadline=commit_deadline,
        reveal_deadline=commit_deadline + params.reveal_blocks,
        committed=0,
        revealed=0,
        round_starts=(*challenge.round_starts, len(challenge.committee)),
    )
    inference.challenges.write(state, challenge_id, ordered)
    inference.due.add(state, drawn_height, DueKind.ROUND_DRAW, challenge_id)
    return True


def draw_round(env: Environment, challenge_id: bytes) -> bool:
    """Draw the committee of an ordered round with this block's beacon. False when no verifier is left."""
    state, params = env.state, inference.params.read(env.state)
    challenge = inference.challenges.read(state, challenge_id)
    assert challenge is not None, "an open challenge is kept"
    revealed = read_revealed(env, challenge_id, challenge)
    before = replace(challenge, round_starts=challenge.round_starts[:-1])
    contested, silent = compute_vacancies(params, before, revealed)
    seats = min(contested + len(silent), COMMITTEE_MAX - len(challenge.committee))
    seated = draws.compute_committee(env.block.beacon, challenge_id, _list_fresh(env, challenge), seats)
    if not seated:
        return False
    fresh = tuple(CommitteeMember(member.operator, member.power) for member in seated)
    replaced = frozenset(silent[: len(fresh)])
    sitting = tuple(replace(one, stake=0) if one.verifier in replaced else one for one in challenge.committee)
    for member in fresh:
        inference.open_challenges.add(state, member.verifier, challenge_id)
    # Work that was due may be done later (deadlines.py): the new members have all their time from now on.
    commit_deadline = env.block.height + params.commit_blocks
    drawn = replace(
        challenge,
        beacon=env.block.beacon,
        drawn_height=env.block.height,
        commit_deadline=commit_deadline,
        reveal_deadline=commit_deadline + params.reveal_blocks,
        committee=(*sitting, *fresh),
    )
    inference.challenges.write(state, challenge_id, drawn)
    inference.due.add(state, drawn.reveal_deadline, DueKind.REVEAL, challenge_id)
    env.emit(
        ChallengeContested(
            challenge=challenge_id,
            request=challenge.request,
            stage=challenge.stage,
            committee=tuple(member.verifier for member in fresh),
            commit_deadline=drawn.commit_deadline,
            reveal_deadline=drawn.reveal_deadline,
        )
    )
    return True


def compute_vacancies(
    params: InferenceParams, challenge: Challenge, revealed: Mapping[bytes, Reveal]
) -> tuple[int, list[bytes]]:
    """After a round: seats that a first contradiction of pass and fail adds, and whose silence is to be replaced."""
    committee, start = challenge.committee, challenge.round_start
    silent = [one.verifier for one in committee[start:] if one.verifier not in revealed]
    was_contested = _is_contested(committee[:start], revealed)
    is_contested = _is_contested(committee, revealed) and not was_contested
    return (params.contest_committee_size if is_contested else 0), silent


def _is_contested(members: tuple[CommitteeMember, ...], revealed: Mapping[bytes, Reveal]) -> bool:
    outcomes = [revealed[one.verifier].outcome for one in members if one.verifier in revealed]
    return Outcome.PASS in outcomes and Outcome.FAIL in outcomes


def _list_fresh(env: Environment, challenge: Challenge) -> list[Validator]:
    """The eligible verifiers that have not sat in any round."""
    request = payments.read_request(env, challenge.request)
    taken = {request.client, *(stage.operator for stage in request.stages)}
    taken |= {member.verifier for member in challenge.committee}
    return draws.list_eligible(env.state, challenge.model, taken)
