"""Staking's work in every block and at epoch ends: count signatures, pay, jail, elect (staking.md)."""

from __future__ import annotations

from consensus.runtime.arithmetic import PERMILLE, compute_permille
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import read_issuance
from consensus.runtime.context import Environment
from consensus.runtime.staking import state as staking
from consensus.runtime.staking import turns
from consensus.runtime.staking.emission import (
    compute_emission_parts,
    compute_rewards,
    compute_split,
    compute_turn_rewards,
)
from consensus.runtime.staking.events import (
    DelegatorsRewarded,
    EpochEnded,
    ValidatorDeclined,
    ValidatorJailed,
    ValidatorRetired,
    ValidatorRewarded,
)
from consensus.runtime.staking.pool_state import read_pool
from consensus.runtime.staking.pools import pay_in
from consensus.runtime.staking.slashing import slash_delegations, slash_stake
from consensus.state.reader import StateReader
from proto_specs.types.chain import Validator, ValidatorSet


def initialize(env: Environment) -> None:
    """Count the signers of the parent's commit. Signers that have left the set since then are not counted."""
    commit = env.block.last_commit
    if commit is None:
        return
    signers = {one.validator for one in commit.signatures}
    members = staking.validators.read(env.state).members
    past = staking.participation.read(env.state)
    signed = tuple(count + (member.key in signers) for count, member in zip(past.signed, members, strict=True))
    staking.participation.write(env.state, staking.Participation(past.blocks + 1, signed))


def finalize(env: Environment) -> None:
    """At an epoch's last block: pay its emission, jail absent validators, then elect."""
    params = staking.read_params(env.state)
    if not staking.is_epoch_end(params, env.block.height):
        return
    epoch = staking.compute_epoch(params, env.block.height)
    minted = _pay_emission(env, params, epoch)
    _jail_absent(env, params)
    _drop_poor_candidates(env, params)
    _install(env, compute_election(env.state, params))
    members = staking.validators.read(env.state).members
    env.emit(EpochEnded(epoch, minted, len(members), sum(one.power for one in members)))


def compute_election(state: StateReader, params: staking.StakingParams) -> ValidatorSet:
    """The candidates with the highest own and delegated stake, at most `validators_max`; ties go by key.

    The result is ordered by key. A candidate needs the minimum of own stake and is neither jailed nor tombstoned.
    """
    electable = [
        Validator(key, operator, own + read_pool(state, operator).tokens)
        for operator, key in staking.list_candidates(state)
        if (own := staking.read_stake(state, operator).bonded) >= max(params.validator_stake_min, 1)
        and not staking.is_tombstoned(state, key)
        and staking.jailed.read(state, operator) is None
    ]
    electable.sort(key=lambda one: (-one.power, one.key))
    return ValidatorSet(tuple(sorted(electable[: params.validators_max], key=lambda one: one.key)))


def is_absent(params: staking.StakingParams, signed: int, blocks: int) -> bool:
    """Whether a validator that could sign `blocks` commits signed too few of them."""
    return signed * PERMILLE < params.downtime_permille * blocks


def _pay_emission(env: Environment, params: staking.StakingParams, epoch: int) -> int:
    members = staking.validators.read(env.state).members
    past, elected = staking.participation.read(env.state), staking.elected.read(env.state)
    emission = compute_emission_parts(params, epoch, read_issuance(env.state)).producers
    proposals = staking.proposals.read(env.state)
    for_turns = compute_permille(emission, params.proposal_permille)
    signing = compute_rewards(emission - for_turns, members, past.signed, past.blocks, elected.joined)
    proposing = compute_turn_rewards(for_turns, proposals.made, proposals.blocks)
    rewards = [one + other for one, other in zip(signing, proposing, strict=True)]
    minted = 0
    for member, reward, signed, own in zip(members, rewards, past.signed, elected.own, strict=True):
        if reward:
            minted += _pay_validator(env, member, reward, signed, past.blocks, own)
    return minted


def _pay_validator(env: Environment, member: Validator, reward: int, signed: int, blocks: int, own: int) -> int:
    """Pay operator and delegators; returns the nmyl minted. When no delegator is left their part is not minted."""
    commission_permille = staking.read_commission(env.state, member.operator, env.block.height)
    for_own, commission, for_delegators = compute_split(reward, own, member.power, commission_permille)
    paid = pay_in(env.state, member.operator, for_delegators, env.block.height)
    if paid:
        env.emit(DelegatorsRewarded(member.operator, paid, commission))
    ledger.mint(env.state, member.operator, for_own + commission)
    env.emit(ValidatorRewarded(member.operator, for_own + commission, signed, blocks))
    return for_own + commission + paid


def _jail_absent(env: Environment, params: staking.StakingParams) -> None:
    """Slash and jail members that signed too few of the commits they could sign, or declined too many of their turns.

    One offence per epoch.
    """
    members = staking.validators.read(env.state).members
    past, elected = staking.participation.read(env.state), staking.elected.read(env.state)
    declining = turns.list_declining(params, staking.proposals.read(env.state))
    for member, signed, joined, found in zip(members, past.signed, elected.joined, declining, strict=True):
        blocks = max(past.blocks - joined, 0)
        if staking.is_tombstoned(env.state, member.key):
            continue
        if is_absent(params, signed, blocks):
            burned, until = _jail(env, params, member.operator)
            env.emit(ValidatorJailed(member.operator, signed, blocks, burned, until))
        elif found is not None:
            burned, until = _jail(env, params, member.operator)
            env.emit(ValidatorDeclined(member.operator, found.made, found.turns, burned, until))


def _jail(env: Environment, params: staking.StakingParams, operator: bytes) -> tuple[int, int]:
    """Slash and jail; returns the nmyl burned of own stake, and until when."""
    height, permille = env.block.height, params.downtime_slash_permille
    burned = slash_stake(env, operator, height, permille, PERMILLE)
    slash_delegations(env, operator, height, permille, PERMILLE)
    staking.downtimes.write(env.state, operator, height, permille)
    until = height + params.jail_blocks
    staking.jailed.write(env.state, operator, until)
    return burned, until


def _drop_poor_candidates(env: Environment, params: staking.StakingParams) -> None:
    """Remove candidates with less than the minimum of own stake: otherwise the list of candidates grows for ever."""
    for operator, _ in staking.list_candidates(env.state):
        if staking.read_stake(env.state, operator).bonded < params.validator_stake_min:
            staking.candidates.delete(env.state, operator)
            env.emit(ValidatorRetired(operator))


def _install(env: Environment, chosen: ValidatorSet) -> None:
    """Make the elected the set that decides the next block. An empty election keeps the set and its pay records."""
    before = staking.validators.read(env.state).members
    old = {member.key for member in before}
    if chosen.members:
        own = tuple(staking.read_stake(env.state, one.operator).bonded for one in chosen.members)
        joined = tuple(int(one.key not in old) for one in chosen.members)
        staking.validators.write(env.state, chosen)
        staking.elected.write(env.state, staking.Elected(own, joined))
    else:
        own = staking.elected.read(env.state).own
        staking.elected.write(env.state, staking.Elected(own, (0,) * len(before)))
    members = staking.validators.read(env.state).members
    staking.participation.write(env.state, staking.Participation(0, (0,) * len(members)))
    staking.proposals.write(env.state, turns.start(staking.validators.read(env.state)))
