"""Verifiers are scored by whether their verdicts count (DESIGN 5.6). Economics first:

- silence costs `downtime_slash_permille` of the stake each time, as absence costs a validator;
- who reveals what a carried verdict leaves out, or finds nothing again and again, gets `miss_points`; each verdict that
  it helps to carry takes one point off. Above `miss_points_max` every further miss costs as much as silence. So one
  seat in `miss_points + 1` may go wrong for ever, by a machine at fault or by a worker that opens to some only. A lazy
  verifier that makes its fingerprint up, or is never sure, goes wrong in every seat and pays;
- both together cost up to `silence_epoch_permille` of a stake an epoch: an attack on a verifier's machine is no way to
  take its stake.

Not a miss: finding nothing where two thirds of those who revealed found nothing, which is how windows end that nobody
can judge; an outlier in a round without a carrier of its outcome, where nobody knows who is right; having found a
worker unavailable that others convicted, since it chooses whom to open to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.context import Environment
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_events import VerifierMissed
from consensus.runtime.inference.events import VerifierSilent
from consensus.runtime.inference.state import Challenge, Reveal
from consensus.runtime.inference.tally import VerdictTally
from consensus.runtime.staking import slashing
from consensus.runtime.staking import state as staking
from proto_specs.types.calls import Outcome


def slash_silent(env: Environment, challenge_id: bytes, challenge: Challenge, revealed: Mapping[bytes, Reveal]) -> None:
    """Slash each member of this round that had the time to reveal and did not."""
    for member in challenge.committee[challenge.round_start :]:
        who = member.verifier
        if who in revealed:
            continue
        count = (inference.silences.read(env.state, who) or 0) + 1
        inference.silences.write(env.state, who, count)
        burned = _charge(env, who, challenge.drawn_height)
        env.emit(VerifierSilent(challenge_id, who, count, burned))


def score(
    env: Environment,
    challenge_id: bytes,
    challenge: Challenge,
    revealed: Mapping[bytes, Reveal],
    tally: VerdictTally,
) -> None:
    """Note who carried a challenge's verdict and who missed it, when it ends."""
    points = inference.params.read(env.state).miss_points
    for who in tally.carriers:
        one = committees.read_standing(env.state, who)
        better = replace(one, points=max(one.points - 1, 0), carried=one.carried + 1)
        committees.standings.write(env.state, who, better)
    for who in list_misses(challenge, revealed, tally):
        _note_miss(env, challenge_id, who, challenge.drawn_height, points)


def list_misses(challenge: Challenge, revealed: Mapping[bytes, Reveal], tally: VerdictTally) -> list[bytes]:
    """Who revealed and is to be blamed for not counting, in committee order."""
    if tally.outcome == Outcome.INCONCLUSIVE:
        unsure = [
            one.verifier
            for one in challenge.committee
            if one.verifier in revealed and revealed[one.verifier].outcome == Outcome.INCONCLUSIVE
        ]
        return unsure if 3 * len(unsure) < 2 * len(revealed) else []
    misses, carriers = [], set(tally.carriers)
    for start, end in pairwise((0, *challenge.round_starts, len(challenge.committee))):
        members = [one.verifier for one in challenge.committee[start:end] if one.verifier in revealed]
        agreed = {revealed[who].outcome for who in members if who in carriers}
        for who in members:
            if who not in carriers and _is_miss(tally.outcome, revealed[who].outcome, agreed):
                misses.append(who)
    return misses


def _is_miss(verdict: int, outcome: int, agreed: set[int]) -> bool:
    """Whether an outcome is to blame that did not carry the verdict; `agreed` are those of its round that did."""
    if (verdict, outcome) == (Outcome.FAIL, Outcome.UNAVAILABLE):
        return False
    is_alike = outcome == verdict or (verdict, outcome) == (Outcome.UNAVAILABLE, Outcome.FAIL)
    return not is_alike or outcome in agreed


def _note_miss(env: Environment, challenge_id: bytes, who: bytes, drawn_height: int, points: int) -> None:
    most = inference.params.read(env.state).miss_points_max
    one = committees.read_standing(env.state, who)
    missed = replace(one, points=min(one.points + points, most), misses=one.misses + 1)
    committees.standings.write(env.state, who, missed)
    burned = _charge(env, who, drawn_height) if one.points + points > most else 0
    env.emit(VerifierMissed(challenge_id, who, missed.points, burned))


def _charge(env: Environment, who: bytes, drawn_height: int) -> int:
    """Slash what silence costs, as far as this epoch's bound goes. Returns the nmyl burned."""
    params, state = staking.read_params(env.state), env.state
    epoch, one = staking.compute_epoch(params, env.block.height), committees.read_standing(state, who)
    charged = one.charged_permille if one.epoch == epoch else 0
    most = inference.params.read(state).silence_epoch_permille
    permille = max(min(params.downtime_slash_permille, most - charged), 0)
    committees.standings.write(state, who, replace(one, epoch=epoch, charged_permille=charged + permille))
    return slashing.slash_stake(env, who, drawn_height, permille, PERMILLE) if permille else 0
