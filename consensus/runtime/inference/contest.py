"""A challenge with passes and fails and no verdict goes to more verifiers, once (DESIGN 5.6).

The second round has a beacon of its own: the first round's fingerprints are public by then, and with the old seed they
could be copied. Its members are counted together with the first ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from consensus.runtime.context import Environment
from consensus.runtime.inference import draws, payments
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import ChallengeContested
from consensus.runtime.inference.state import Challenge, CommitteeMember, DueKind, Reveal
from proto_specs.limits import COMMITTEE_MAX
from proto_specs.types.calls import Outcome


def is_contested(challenge: Challenge, revealed: Mapping[bytes, Reveal]) -> bool:
    """Whether the first round (a second is the last) revealed both a pass and a fail."""
    outcomes = [one.outcome for one in revealed.values()]
    return not challenge.first_members and Outcome.PASS in outcomes and Outcome.FAIL in outcomes


def draw_second_round(env: Environment, challenge_id: bytes, challenge: Challenge) -> bool:
    """Seat fresh verifiers with this block's beacon and new deadlines. False when nobody is left to be seated."""
    state, params, height = env.state, inference.params.read(env.state), env.block.height
    request = payments.read_request(env, challenge.request)
    taken = {request.client, *(stage.operator for stage in request.stages)}
    taken |= {member.verifier for member in challenge.committee}
    eligible = draws.list_eligible(state, challenge.model, taken)
    seats = min(params.contest_committee_size, COMMITTEE_MAX - len(challenge.committee))
    seated = draws.compute_committee(env.block.beacon, challenge_id, eligible, seats)
    if not seated:
        return False
    fresh = tuple(CommitteeMember(member.operator, member.power) for member in seated)
    for member in challenge.committee:
        inference.open_challenges.remove(state, member.verifier, challenge_id)
    for member in fresh:
        inference.open_challenges.add(state, member.verifier, challenge_id)
    inference.due.remove(state, challenge.reveal_deadline, DueKind.REVEAL, challenge_id)
    commit_deadline = height + params.commit_blocks
    second = replace(
        challenge,
        beacon=env.block.beacon,
        drawn_height=height,
        commit_deadline=commit_deadline,
        reveal_deadline=commit_deadline + params.reveal_blocks,
        committee=(*challenge.committee, *fresh),
        committed=0,
        revealed=0,
        first_members=len(challenge.committee),
    )
    inference.challenges.write(state, challenge_id, second)
    inference.due.add(state, second.reveal_deadline, DueKind.REVEAL, challenge_id)
    env.emit(
        ChallengeContested(
            challenge=challenge_id,
            request=challenge.request,
            stage=challenge.stage,
            committee=tuple(member.verifier for member in fresh),
            commit_deadline=second.commit_deadline,
            reveal_deadline=second.reveal_deadline,
        )
    )
    return True
