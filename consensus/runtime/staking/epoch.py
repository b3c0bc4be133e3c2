"""What staking does in every block and at epoch ends: count signatures, emit rewards, elect validators (runtime.md)."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.runtime.arithmetic import compute_shares
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import read_issuance
from consensus.runtime.context import Environment
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.events import EpochEnded, ValidatorRewarded
from consensus.state.reader import StateReader
from proto_specs.types.chain import Validator, ValidatorSet


def initialize(env: Environment) -> None:
    """Count who signed the parent's commit. Signers who left the set since are not counted."""
    commit = env.block.last_commit
    if commit is None:
        return
    signers = {one.validator for one in commit.signatures}
    members = staking.validators.read(env.state).members
    past = staking.participation.read(env.state)
    signed = tuple(count + (member.key in signers) for count, member in zip(past.signed, members, strict=True))
    staking.participation.write(env.state, staking.Participation(past.blocks + 1, signed))


def finalize(env: Environment) -> None:
    """At an epoch's last block: pay its emission, then elect."""
    params = staking.read_params(env.state)
    if not staking.is_epoch_end(params, env.block.height):
        return
    epoch = staking.compute_epoch(params, env.block.height)
    minted = _pay_emission(env, params, epoch)
    elected = compute_election(env.state, params)
    if elected.members:
        staking.validators.write(env.state, elected)
    members = staking.validators.read(env.state).members
    staking.participation.write(env.state, staking.Participation(0, (0,) * len(members)))
    staking.epoch_offenders.write(env.state, 0)
    env.emit(EpochEnded(epoch, minted, len(members), sum(one.power for one in members)))


def compute_emission(params: staking.StakingParams, epoch: int, issuance: int) -> int:
    """nmyl an epoch may mint: the schedule's amount, or what is left below the cap."""
    halvings = epoch // params.emission_halving_epochs
    return min(params.emission_per_epoch >> halvings, max(params.issuance_max - issuance, 0))


def compute_rewards(emission: int, members: Sequence[Validator], signed: Sequence[int], blocks: int) -> list[int]:
    """Shares of `emission` by stake x signed commits. What absent validators missed is shared by nobody.

    The missed part stands as one more claimant, so that nobody gains by leaving others' votes out of a commit.
    """
    weights = [member.power * count for member, count in zip(members, signed, strict=True)]
    missed = sum(member.power for member in members) * blocks - sum(weights)
    return compute_shares(emission, [*weights, missed])[:-1]


def compute_election(state: StateReader, params: staking.StakingParams) -> ValidatorSet:
    """The candidates of the highest stake, at most `validators_max`; equal stakes by key. Ordered by key."""
    standing = [
        Validator(key, operator, staking.read_stake(state, operator).bonded)
        for operator, key in staking.list_candidates(state)
        if not staking.is_tombstoned(state, key)
    ]
    eligible = [one for one in standing if one.power >= max(params.validator_stake_min, 1)]
    eligible.sort(key=lambda one: (-one.power, one.key))
    return ValidatorSet(tuple(sorted(eligible[: params.validators_max], key=lambda one: one.key)))


def _pay_emission(env: Environment, params: staking.StakingParams, epoch: int) -> int:
    members = staking.validators.read(env.state).members
    past = staking.participation.read(env.state)
    emission = compute_emission(params, epoch, read_issuance(env.state))
    rewards = compute_rewards(emission, members, past.signed, past.blocks)
    for member, reward, signed in zip(members, rewards, past.signed, strict=True):
        if reward:
            ledger.mint(env.state, member.operator, reward)
            env.emit(ValidatorRewarded(member.operator, reward, signed, past.blocks))
    return sum(rewards)
