"""Staking calls: bond, unbond, withdraw, stand for election."""

from __future__ import annotations

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.errors import (
    AlreadyRegistered,
    BadKeyProof,
    InsufficientStake,
    KeyTaken,
    NothingToWithdraw,
    TooManyUnbonding,
    ZeroStake,
)
from consensus.runtime.staking.events import Bonded, Unbonded, ValidatorRegistered, Withdrawn
from proto_specs.ed25519 import is_signature_valid
from proto_specs.hashing import Tag
from proto_specs.types.calls import Bond, RegisterValidator, Unbond, WithdrawUnbonded


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
    height = env.block.height + staking.read_params(env.state).unbonding_blocks
    queue = (*stake.unbonding, staking.Unbonding(call.amount, height))
    staking.stakes.write(env.state, signer, staking.Stake(stake.bonded - call.amount, queue))
    env.emit(Unbonded(signer, call.amount, height))


def withdraw_unbonded(env: Environment, signer: bytes, call: WithdrawUnbonded) -> None:
    """Free what has matured. Raises NothingToWithdraw."""
    stake = staking.read_stake(env.state, signer)
    matured = [one for one in stake.unbonding if one.height <= env.block.height]
    if not matured:
        raise NothingToWithdraw("no unbonding stake has matured")
    amount = sum(one.amount for one in matured)
    left = tuple(one for one in stake.unbonding if one.height > env.block.height)
    write_stake(env, signer, staking.Stake(stake.bonded, left))
    ledger.release(env.state, signer, HoldReason.STAKE, amount)
    env.emit(Withdrawn(signer, amount))


def register_validator(env: Environment, signer: bytes, call: RegisterValidator) -> None:
    """Stand for election from the next epoch end on.

    Raises AlreadyRegistered, KeyTaken, BadKeyProof, InsufficientStake.
    """
    if staking.candidates.read(env.state, signer) is not None:
        raise AlreadyRegistered("one account runs one validator")
    if staking.operators.read(env.state, call.consensus_key) is not None:
        raise KeyTaken("each consensus key is registered once")
    if not is_signature_valid(call.consensus_key, Tag.KEY_PROOF_SIGN, signer, call.key_proof):
        raise BadKeyProof("the consensus key has to sign the account")
    least = staking.read_params(env.state).validator_stake_min
    bonded = staking.read_stake(env.state, signer).bonded
    if bonded < least:
        raise InsufficientStake(f"{bonded} nmyl are bonded, a validator needs {least}")
    staking.candidates.write(env.state, signer, call.consensus_key)
    staking.operators.write(env.state, call.consensus_key, signer)
    env.emit(ValidatorRegistered(signer, call.consensus_key))


def write_stake(env: Environment, who: bytes, stake: staking.Stake) -> None:
    """Store a stake; an empty one leaves no record."""
    if stake == staking.EMPTY_STAKE:
        staking.stakes.delete(env.state, who)
    else:
        staking.stakes.write(env.state, who, stake)
