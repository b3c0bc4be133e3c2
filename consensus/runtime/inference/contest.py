"""A challenge without a verdict goes to more verifiers (DESIGN 5.6). Economics first:

- of three seats a third of the stake has two in 26 of 100 draws: enough to acquit a friend, or to convict a rival and
  share the bounty. One honest member that contradicts brings a larger committee, before anything is decided;
- a worker about to be convicted could have friends on its committee contradict, stay silent, or find nothing: two
  thirds of the stake are then never reached, and nothing is slashed without a verdict. So a contradiction brings a
  larger committee, once, and whoever did not count is replaced, by others who have not sat; `ROUNDS_MAX` bounds the
  rounds. What not counting costs is in standing.py;
- a later round is ordered in block h and drawn by the beacon of h + 2, like the first: the proposer of the block with
  the last reveal knows how the vote stands, but cannot choose the beacon and with it the committee;
- where all who revealed cannot tell, with two thirds of the stake, nobody else is asked.

Each round has a beacon of its own: fingerprints of earlier rounds are public and could be copied under an old seed.
All rounds are counted together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from consensus.runtime.context import Environment
from consensus.runtime.inference import benches, draws, payments, seats
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_events import DrawPostponed
from consensus.runtime.inference.events import ChallengeContested
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import (
    DRAW_DELAY_BLOCKS,
    ROUNDS_MAX,
    Challenge,
    CommitteeMember,
    DueKind,
    Reveal,
)
from consensus.runtime.inference.tally import list_counted
from consensus.runtime.system.space import read_paused
from proto_specs.limits import COMMITTEE_MAX
from proto_specs.types.calls import Outcome
from proto_specs.types.chain import Validator


def read_revealed(env: Environment, challenge_id: bytes, challenge: Challenge) -> dict[bytes, Reveal]:
    """The reveals of all rounds, by verifier, in committee order."""
    found = (
        (one.verifier, inference.reveals.read(env.state, challenge_id, one.verifier)) for one in challenge.committee
    )
    return {who: reveal for who, reveal in found if reveal is not None}


def order_round(
    env: Environment,
    challenge_id: bytes,
    challenge: Challenge,
    revealed: Mapping[bytes, Reveal],
    *,
    is_decided: bool,
) -> bool:
    """Schedule the draw of one more round. False when none is needed or allowed, or no verifier is left for it.

    When the count `is_decided` only a first contradiction needs one, else vacancies do, too.
    """
    state, params = env.state, inference.params.read(env.state)
    if len(challenge.round_starts) + 1 >= ROUNDS_MAX:
        return False
    added, vacant = compute_vacancies(params, challenge, revealed)
    is_needed = added or (vacant and not is_decided and not is_unjudgeable(challenge, revealed))
    if not is_needed or not _list_fresh(env, challenge):
        return False
    for member in challenge.committee:
        seats.leave(state, member.verifier, challenge_id)
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
        paused=read_paused(state),
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
    added, vacant = compute_vacancies(params, before, revealed)
    wanted = min(added + len(vacant), COMMITTEE_MAX - len(challenge.committee))
    fresh = _list_fresh(env, challenge)
    free = seats.keep_free(state, fresh)
    if len(free) < min(wanted, len(fresh)) and _postpone(env, challenge_id, challenge):
        return True
    seated = draws.compute_committee(env.block.beacon, challenge_id, free, wanted)
    if not seated:
        return False
    joined = tuple(CommitteeMember(member.operator, member.power) for member in seated)
    replaced = frozenset(vacant[: len(joined)])
    sitting = tuple(replace(one, stake=0) if one.verifier in replaced else one for one in challenge.committee)
    for member in joined:
        seats.take(state, member.verifier, challenge_id)
    # Work that was due may be done later (deadlines.py): the new members have all their time from now on.
    commit_deadline = env.block.height + params.commit_blocks
    drawn = replace(
        challenge,
        beacon=env.block.beacon,
        drawn_height=env.block.height,
        commit_deadline=commit_deadline,
        reveal_deadline=commit_deadline + params.reveal_blocks,
        committee=(*sitting, *joined),
        paused=read_paused(state),
    )
    inference.challenges.write(state, challenge_id, drawn)
    inference.due.add(state, drawn.reveal_deadline, DueKind.REVEAL, challenge_id)
    env.emit(
        ChallengeContested(
            challenge=challenge_id,
            request=challenge.request,
            stage=challenge.stage,
            committee=tuple(member.verifier for member in joined),
            commit_deadline=drawn.commit_deadline,
            reveal_deadline=drawn.reveal_deadline,
        )
    )
    return True


def compute_vacancies(
    params: InferenceParams, challenge: Challenge, revealed: Mapping[bytes, Reveal]
) -> tuple[int, list[bytes]]:
    """After a round: seats that a first contradiction adds, and who is to be replaced, since it did not count.

    Who does not count is silent, inconclusive, or an outlier of its round by its fingerprint.
    """
    committee, start = challenge.committee, challenge.round_start
    counted = list_counted(committee, revealed, challenge.round_starts)
    vacant = [one.verifier for one in committee if one.stake and one.verifier not in counted]
    was_contested = _is_contested(committee[:start], revealed)
    is_contested = _is_contested(committee, revealed) and not was_contested
    return (params.contest_committee_size if is_contested else 0), vacant


def is_unjudgeable(challenge: Challenge, revealed: Mapping[bytes, Reveal]) -> bool:
    """Whether all who revealed, with two thirds of the stake, say that they cannot tell: others will not either."""
    agreed = [one for one in challenge.committee if one.verifier in revealed]
    if any(revealed[one.verifier].outcome != Outcome.INCONCLUSIVE for one in agreed):
        return False
    return 3 * sum(one.stake for one in agreed) >= 2 * sum(one.stake for one in challenge.committee)


def _is_contested(members: tuple[CommitteeMember, ...], revealed: Mapping[bytes, Reveal]) -> bool:
    outcomes = [revealed[one.verifier].outcome for one in members if one.verifier in revealed]
    return Outcome.PASS in outcomes and (Outcome.FAIL in outcomes or Outcome.UNAVAILABLE in outcomes)


def _postpone(env: Environment, challenge_id: bytes, challenge: Challenge) -> bool:
    """Draw the round some blocks later, when verifiers have free seats. False when that was done too often."""
    params, tries = inference.params.read(env.state), committees.round_delays.read(env.state, challenge_id) or 0
    if tries >= params.postpone_max:
        return False
    later = params.postpone_blocks
    moved = replace(
        challenge,
        drawn_height=env.block.height + later,
        commit_deadline=challenge.commit_deadline + later,
        reveal_deadline=challenge.reveal_deadline + later,
    )
    committees.round_delays.write(env.state, challenge_id, tries + 1)
    inference.challenges.write(env.state, challenge_id, moved)
    inference.due.add(env.state, moved.drawn_height, DueKind.ROUND_DRAW, challenge_id)
    env.emit(DrawPostponed(challenge_id, challenge.request, challenge.stage, tries + 1, moved.drawn_height))
    return True


def _list_fresh(env: Environment, challenge: Challenge) -> list[Validator]:
    """Who may judge the stage and has not sat in any round."""
    request = payments.read_request(env, challenge.request)
    operators = [stage.operator for stage in request.stages]
    taken = benches.list_parties(request.client, operators, challenge.stage)
    taken |= {member.verifier for member in challenge.committee}
    return benches.list_eligible(env.state, challenge.model, taken)
