"""Whose turn it was to propose, and who took it. Economics first:

- a proposer sees the beacon that its block makes, and nobody else does. It may decline to make it, and the next round's
  proposer makes another: so declining must cost, each time. `proposal_permille` of what producers earn is paid by the
  turn: a block pays who made it if the turn of round 0 was its own, and nobody else. A missed turn's part is not
  minted, so that nobody gains by keeping another's block from being decided;
- a header's `proposer` is evidence enough: all whose rounds of its height come before its own have missed a turn. A
  block that is proposed again in a later round keeps its maker's name, and then nothing was missed;
- who misses most of its turns, and more than `declines_max` in an epoch, is slashed and jailed as the absent are. When
  more than a third of all turns were missed it is the network's fault or that of too many: then nobody is.

The rotation is in the state, so that every node, one from a snapshot too, reads the same turns.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.bft.proposer import ProposerRotation
from consensus.runtime.context import Environment
from consensus.runtime.staking import state as staking
from consensus.state.reader import StateReader
from proto_specs.limits import MORTALITY_BLOCKS_MAX
from proto_specs.types.chain import ValidatorSet, compute_validators_hash

SKIPPED_MAX = 64
"""Rounds of one height that are looked at. So many fail only where no block is made for a long time."""


MAKERS_KEPT = MORTALITY_BLOCKS_MAX
"""Blocks whose maker and set are remembered: as many as hashes are."""


@dataclass(frozen=True, slots=True)
class Declining:
    """Turns of a validator in an epoch."""

    turns: int
    made: int


def read_rotation(state: StateReader) -> ProposerRotation:
    """The rotation of the block that comes next, or that executes."""
    return ProposerRotation.decode(staking.validators.read(state), staking.rotation.read(state))


def initialize(env: Environment) -> ProposerRotation:
    """Count the turn taken and those missed at this height. Returns the height's rotation, for `finalize`."""
    state = env.state
    rotation = read_rotation(state)
    skipped = list_skipped(rotation, env.block.proposer)
    before = staking.skips.read(state)
    staking.skips.write(state, staking.Skips(before.last, len(skipped)))
    height = env.block.height
    validators_hash = compute_validators_hash(rotation.validators)
    staking.makers.write(state, height, staking.Maker(env.block.proposer, validators_hash))
    if height > MAKERS_KEPT:
        staking.makers.delete(state, height - MAKERS_KEPT)
    members = [member.key for member in rotation.validators.members]
    past = staking.proposals.read(state)
    turns, made = list(past.turns), list(past.made)
    for key in skipped or [env.block.proposer]:
        turns[members.index(key)] += 1
    if not skipped:
        made[members.index(env.block.proposer)] += 1
    staking.proposals.write(state, staking.Proposals(past.blocks + 1, tuple(turns), tuple(made)))
    return rotation


def list_skipped(rotation: ProposerRotation, proposer: bytes) -> list[bytes]:
    """Proposers of the rounds before the first one that is the given proposer's, in order; one may be there twice."""
    found: list[bytes] = []
    for key in rotation.list_proposers(SKIPPED_MAX):
        if key == proposer:
            break
        found.append(key)
    return found


def finalize(env: Environment, rotation: ProposerRotation) -> None:
    """Write the next height's rotation: a step, and the change of the set if there was one (consensus.md)."""
    after = rotation.advance()
    validators = staking.validators.read(env.state)
    if validators != rotation.validators:
        after = after.with_validators(validators)
    staking.rotation.write(env.state, after.encode_priorities())


def list_declining(params: staking.StakingParams, proposals: staking.Proposals) -> list[Declining | None]:
    """For each member whether, and how, it declined too often."""
    turns, made = sum(proposals.turns), sum(proposals.made)
    if 3 * (turns - made) > turns:
        return [None] * len(proposals.turns)
    return [
        Declining(asked, taken) if asked - taken > params.declines_max and 2 * taken < asked else None
        for asked, taken in zip(proposals.turns, proposals.made, strict=True)
    ]


def keep_members(state: StateReader, kept: list[int]) -> staking.Proposals:
    """The counts of those members that stay, by index."""
    past = staking.proposals.read(state)
    return staking.Proposals(
        past.blocks, tuple(past.turns[index] for index in kept), tuple(past.made[index] for index in kept)
    )


def start(validators: ValidatorSet) -> staking.Proposals:
    """No turns yet."""
    none = (0,) * len(validators.members)
    return staking.Proposals(0, none, none)
