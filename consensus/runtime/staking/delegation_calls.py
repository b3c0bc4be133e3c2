"""Calls of delegators: delegate, undelegate, redelegate, claim rewards. Each also pays the rewards so far."""

from __future__ import annotations

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.book import Book, Taken
from consensus.runtime.staking.errors import (
    DelegationTooSmall,
    NoDelegation,
    NothingToClaim,
    NoValidator,
    SameValidator,
    StillLiable,
    Tombstoned,
    ZeroStake,
)
from consensus.runtime.staking.events import Delegated, DelegationPaid, Redelegated, Undelegated
from consensus.runtime.staking.leave import queue_leaving
from consensus.runtime.staking.pool_state import Leaving, Liability, compute_pool_account
from proto_specs.types.calls import ClaimRewards, Delegate, Redelegate, Undelegate


def delegate(env: Environment, signer: bytes, call: Delegate) -> None:
    """Put free balance behind a candidate: it counts from the next election, and earns from the next epoch on.

    Raises ZeroStake, NoValidator, Tombstoned, InsufficientBalance, PoolDrained, DelegationTooSmall.
    """
    _require_amount(call.amount)
    _require_electable(env, call.validator)
    params = staking.read_params(env.state)
    ledger.debit(env.state, signer, call.amount)
    book = Book(env.state, signer, call.validator, env.block.height)
    book.join(call.amount, staking.compute_epoch_end(params, env.block.height))
    _require_large_enough(params, call.amount, book.value)
    _lock(env, compute_pool_account(call.validator), call.amount)
    _close(env, signer, call.validator, book)
    env.emit(Delegated(signer, call.validator, call.amount))


def undelegate(env: Environment, signer: bytes, call: Undelegate) -> None:
    """Start releasing delegated stake. It votes until the epoch's end and earns nothing more, this epoch included.

    The amount is at least the minimum of a delegation, or all of it: each waiting amount takes room until withdrawn.

    Raises ZeroStake, NoDelegation, InsufficientDelegation, DelegationTooSmall, TooManyUnbonding.
    """
    _require_amount(call.amount)
    params = staking.read_params(env.state)
    book = _open_book(env, signer, call.validator)
    taken = book.take(call.amount, with_liable=True)
    _require_large_enough(params, 0, book.value)
    amount = sum(one.amount for one in taken)
    _require_large_enough(params, 0, amount if book.value else 0)
    ledger.take_held(env.state, compute_pool_account(call.validator), HoldReason.DELEGATION, amount)
    _lock(env, signer, amount)
    height = env.block.height + params.unbonding_blocks
    votes_until = staking.compute_epoch_end(params, env.block.height)
    first = Liability(call.validator, votes_until, height)
    entries = [
        Leaving(call.validator, one.amount, env.block.height, height, _list_liabilities(first, one)) for one in taken
    ]
    queue_leaving(env, signer, entries)
    _close(env, signer, call.validator, book)
    env.emit(Undelegated(signer, call.validator, amount, height))


def redelegate(env: Environment, signer: bytes, call: Redelegate) -> None:
    """Move delegated stake to another candidate at once. Until the end of the unbonding period, counted from the end of
    this epoch, the stake stays liable for the source's past and cannot be redelegated again.

    Raises ZeroStake, SameValidator, NoValidator, Tombstoned, NoDelegation, InsufficientDelegation, StillLiable,
    DelegationTooSmall, PoolDrained, TooManyRedelegations.
    """
    _require_amount(call.amount)
    if call.source == call.dest:
        raise SameValidator("the stake is there already")
    _require_electable(env, call.dest)
    params = staking.read_params(env.state)
    source = _open_book(env, signer, call.source)
    if source.main_value < call.amount <= source.value:
        raise StillLiable(f"{source.main_value} nmyl of {source.value} can move, the rest was redelegated before")
    amount = sum(one.amount for one in source.take(call.amount, with_liable=False))
    _require_large_enough(params, 0, source.value)
    _close(env, signer, call.source, source)
    epoch_end = staking.compute_epoch_end(params, env.block.height)
    until = epoch_end + params.unbonding_blocks
    dest = Book(env.state, signer, call.dest, env.block.height)
    dest.join_cohort(amount, call.source, epoch_end, until)
    _require_large_enough(params, amount, dest.value)
    ledger.take_held(env.state, compute_pool_account(call.source), HoldReason.DELEGATION, amount)
    _lock(env, compute_pool_account(call.dest), amount)
    _close(env, signer, call.dest, dest)
    env.emit(Redelegated(signer, call.source, call.dest, amount, until))


def claim_rewards(env: Environment, signer: bytes, call: ClaimRewards) -> None:
    """Pay out what the delegation has earned. Raises NoDelegation, NothingToClaim."""
    book = _open_book(env, signer, call.validator)
    if not book.earned and not book.merged and book.value:
        raise NothingToClaim("nothing was earned since the last claim")
    _close(env, signer, call.validator, book)


def _require_amount(amount: int) -> None:
    if amount == 0:
        raise ZeroStake("move more than zero")


def _require_electable(env: Environment, validator: bytes) -> None:
    if staking.is_convicted(env.state, validator):
        raise Tombstoned("the validator double-signed")
    if staking.candidates.read(env.state, validator) is None:
        raise NoValidator("the account does not stand for election")


def _require_large_enough(params: staking.StakingParams, added: int, value: int) -> None:
    """The added and the remaining amount must be zero or at least the minimum. Rounding may leave one unit less
    than was added."""
    if 0 < max(value, added) < params.delegation_min:
        raise DelegationTooSmall(f"{value} nmyl would be delegated or leave, the least is {params.delegation_min}")


def _open_book(env: Environment, who: bytes, validator: bytes) -> Book:
    book = Book(env.state, who, validator, env.block.height)
    if not book.exists:
        raise NoDelegation("the account delegates nothing to this validator")
    return book


def _close(env: Environment, who: bytes, validator: bytes, book: Book) -> None:
    earned = book.close()
    if earned:
        env.emit(DelegationPaid(who, validator, earned))


def _lock(env: Environment, who: bytes, amount: int) -> None:
    """Hold money that was taken from elsewhere in the same step."""
    ledger.credit(env.state, who, amount)
    ledger.hold(env.state, who, HoldReason.DELEGATION, amount)


def _list_liabilities(first: Liability, taken: Taken) -> tuple[Liability, ...]:
    if taken.source is None:
        return (first,)
    source, votes_until, until = taken.source
    return first, Liability(source, votes_until, until)
