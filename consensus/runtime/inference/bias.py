"""What a draw loses to proposers who choose among beacons, and what makes up for it (consensus.md, "Bias"). Pure.

A proposer sees its beacon before others do. Two things follow, and each has its remedy:

- It may decline to propose when the draw is bad for it; the next round's proposer makes another beacon. A stage that is
  drawn with p would then be caught with p^2. So a draw after a declined turn has the probability that makes the product
  at least what the exposure asks for, `exposure_factor x R / (S x d)`; after a second one it is certain. Honest
  proposers miss few turns: on the whole this costs next to no verification.
- Proposers of consecutive blocks know each other's proofs. If they make the block of the settlement and all until the
  draw, they know the draw before they settle, and declining is not even needed. So a draw waits until more than
  `draw_power_permille` of the power has made a block since the settlement: with a third, one of them is honest.
"""

from __future__ import annotations

from consensus.runtime.arithmetic import PERMILLE, PPM
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import RequestStage, Worker
from consensus.runtime.staking import state as staking
from consensus.state.reader import StateReader
from proto_specs.limits import VALIDATORS_MAX


def read_drawn_ppm(state: StateReader, stage: RequestStage) -> int:
    """With what probability a stage is drawn in this block, in ppm."""
    skips = staking.count_recent_skips(state)
    worker = inference.workers.read(state, stage.worker)
    if not skips or worker is None:
        return stage.challenge_ppm
    return compute_drawn_ppm(inference.params.read(state), worker, stage.challenge_ppm, skips)


def compute_drawn_ppm(params: InferenceParams, worker: Worker, challenge_ppm: int, skips: int) -> int:
    """`challenge_ppm`, or more if turns to propose were skipped in this block or the one before. 0 stays 0."""
    if not skips or not challenge_ppm:
        return challenge_ppm
    at_stake = params.exposure_factor * worker.unresolved * PERMILLE * PPM * PPM
    covered = worker.bond * params.detection_permille
    if skips > 1 or at_stake >= covered * challenge_ppm * PPM:
        return PPM
    return max(challenge_ppm, -(-at_stake // (covered * challenge_ppm)))


def find_wait(state: StateReader, settled_height: int, height: int) -> int:
    """Blocks to wait for a draw: 0 when enough power has made blocks since the settlement."""
    permille = inference.params.read(state).draw_power_permille
    first = settled_height + 1
    if not permille or height - first >= VALIDATORS_MAX:
        return 0
    members = staking.read_validators(state).members
    powers = {member.key: member.power for member in members}
    total = sum(powers.values())
    found = (staking.makers.read(state, at) for at in range(first, height + 1))
    makers = {one.key for one in found if one is not None}
    made = sum(power for key, power in powers.items() if key in makers)
    lacking = total * permille - made * PERMILLE
    if lacking < 0 or len(makers & powers.keys()) == len(members):
        return 0
    return max(lacking * len(members) // (total * PERMILLE), 1)
