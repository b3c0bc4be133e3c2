"""Calls of accounts that stake their own money: bond, unbond, withdraw, stand for election, commission, jail."""

from __future__ import annotations

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.staking import leave
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.errors import (
    AlreadyRegistered,
    BadValidatorKeyProof,
    CommissionStepTooLarge,
    CommissionTooHigh,
    InsufficientStake,
    KeyIsForLife,
    KeyTaken,
    NothingToWithdraw,
    NotJailed,
    NoValidator,
    StillJailed,
    Tombstoned,
    TooManyUnbonding,
    ZeroStake,
)
from consensus.runtime.staking.events import (
    Bonded,
    CommissionSet,
    Unbonded,
    Unjailed,
    ValidatorRegistered,
    ValidatorRetired,
    Withdrawn,
)
from proto_specs.ed25519 import is_signature_valid
from proto_specs.hashing import Tag
from proto_specs.types.calls import (
    Bond,
    RegisterValidator,
    RetireValidator,
    SetCommission,
    Unbond,
    Unjail,
    WithdrawUnbonded,
)


def bond(env: Environment, signer: bytes, call: Bond) -> None:
    """Lock free balance as stake. Raises ZeroStake, InsufficientBalance."""
    if call.amount == 0:
        raise ZeroStake("bond more than zero")
    ledger.hold(env.state, signer, HoldReason.STAKE, call.amount)
    stake = staking.read_stake(env.state, signer)
    staking.stakes.write(env.state, signer, staking.Stake(stake.bonded + call.amount, stake.unbonding))
    env.emit(Bonded(signer, call.amount))


def unbond(env: Environment, signer: bytes, call: Unbond) -> None:
    """Queue stake for release. Raises ZeroStake, InsufficientStake, TooManyUnbonding."""
    if call.amount == 0:
        raise ZeroStake("unbond more than zero")
    stake = staking.read_stake(env.state, signer)
    if stake.bonded < call.amount:
        raise InsufficientStake(f"{stake.bonded} nmyl are bonded, {call.amount} were to be unbonded")
    if len(stake.unbonding) >= staking.UNBONDING_CHUNKS_MAX:
        raise TooManyUnbonding(f"{len(stake.unbonding)} amounts are unbonding already")
    params = staking.read_params(env.state)
    height = env.block.height + params.unbonding_blocks
    votes_until = staking.compute_epoch_end(params, env.block.height)
    queue = (*stake.unbonding, staking.Unbonding(call.amount, height, votes_until))
    staking.stakes.write(env.state, signer, staking.Stake(stake.bonded - call.amount, queue))
    env.emit(Unbonded(signer, call.amount, height))


def withdraw_unbonded(env: Environment, signer: bytes, call: WithdrawUnbonded) -> None:
    """Free the matured own and delegated stake, less what slashes took of it. Raises NothingToWithdraw."""
    stake = staking.read_stake(env.state, signer)
    matured = [one for one in stake.unbonding if one.height <= env.block.height]
    amount = sum(one.amount for one in matured)
    left = tuple(one for one in stake.unbonding if one.height > env.block.height)
    came_home = leave.withdraw_matured(env, signer)
    if not matured and came_home is None:
        raise NothingToWithdraw("no unbonding stake has matured")
    if matured:
        write_stake(env, signer, staking.Stake(stake.bonded, left))
        ledger.release(env.state, signer, HoldReason.STAKE, amount)
    env.emit(Withdrawn(signer, amount + (came_home or 0)))


def register_validator(env: Environment, signer: bytes, call: RegisterValidator) -> None:
    """Stand for election from the next epoch end on, for the first time or again.

    Raises AlreadyRegistered, Tombstoned, KeyTaken, KeyIsForLife, BadValidatorKeyProof, InsufficientStake.
    """
    if staking.candidates.read(env.state, signer) is not None:
        raise AlreadyRegistered("one account runs one validator")
    if staking.is_convicted(env.state, signer):
        raise Tombstoned("the account's key double-signed")
    if staking.operators.read(env.state, call.consensus_key) not in (None, signer):
        raise KeyTaken("each consensus key is registered once")
    if staking.keys.read(env.state, signer) not in (None, call.consensus_key):
        raise KeyIsForLife("the account has another consensus key")
    if not is_signature_valid(call.consensus_key, Tag.KEY_PROOF_SIGN, signer, call.key_proof):
        raise BadValidatorKeyProof("the consensus key has to sign the account")
    _require_own_stake(env, signer)
    staking.candidates.write(env.state, signer, call.consensus_key)
    staking.operators.write(env.state, call.consensus_key, signer)
    staking.keys.write(env.state, signer, call.consensus_key)
    env.emit(ValidatorRegistered(signer, call.consensus_key))


def retire_validator(env: Environment, signer: bytes, call: RetireValidator) -> None:
    """Stop standing for election. The validator stays in the set until the epoch's end. Raises NoValidator."""
    _require_candidate(env, signer)
    staking.candidates.delete(env.state, signer)
    env.emit(ValidatorRetired(signer))


def set_commission(env: Environment, signer: bytes, call: SetCommission) -> None:
    """Change the share of the delegators' rewards from the next epoch on; a second call replaces the first.

    Raises NoValidator, CommissionTooHigh, CommissionStepTooLarge.
    """
    _require_candidate(env, signer)
    params = staking.read_params(env.state)
    if call.commission_permille > params.commission_permille_max:
        raise CommissionTooHigh(f"{call.commission_permille} permille are above {params.commission_permille_max}")
    current = staking.read_commission(env.state, signer, env.block.height)
    if abs(call.commission_permille - current) > params.commission_step_permille:
        raise CommissionStepTooLarge(f"from {current} it moves at most {params.commission_step_permille} permille")
    after = staking.compute_epoch_end(params, env.block.height)
    staking.commissions.write(env.state, signer, staking.Commission(current, call.commission_permille, after))
    env.emit(CommissionSet(signer, call.commission_permille, after))


def unjail(env: Environment, signer: bytes, call: Unjail) -> None:
    """Become electable again after a jail term. Raises Tombstoned, NotJailed, StillJailed, InsufficientStake."""
    if staking.is_convicted(env.state, signer):
        raise Tombstoned("the account's key double-signed")
    until = staking.jailed.read(env.state, signer)
    if until is None:
        raise NotJailed("there is no jail term")
    if env.block.height < until:
        raise StillJailed(f"the jail term ends with block {until}")
    _require_own_stake(env, signer)
    staking.jailed.delete(env.state, signer)
    env.emit(Unjailed(signer))


def _require_candidate(env: Environment, who: bytes) -> None:
    if staking.candidates.read(env.state, who) is None:
        raise NoValidator("the account does not stand for election")


def _require_own_stake(env: Environment, who: bytes) -> None:
    least = staking.read_params(env.state).validator_stake_min
    bonded = staking.read_stake(env.state, who).bonded
    if bonded < least:
        raise InsufficientStake(f"{bonded} nmyl are bonded, a validator needs {least}")


def write_stake(env: Environment, who: bytes, stake: staking.Stake) -> None:
    """Store a stake; an empty one leaves no record."""
    if stake == staking.EMPTY_STAKE:
        staking.stakes.delete(env.state, who)
    else:
        staking.stakes.write(env.state, who, stake)
