"""The few ways money moves. Each function keeps: issuance == sum of free + reserved; reserved == sum of holds."""

from __future__ import annotations

from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.balances.state import (
    EMPTY_ACCOUNT,
    Account,
    HoldReason,
    accounts,
    holds,
    issuance,
    read_account,
    read_hold,
)
from consensus.state.storage import StateWriter


def write_account(state: StateWriter, who: bytes, account: Account) -> None:
    """Store an account; an all-zero one leaves no record."""
    if account == EMPTY_ACCOUNT:
        accounts.delete(state, who)
    else:
        accounts.write(state, who, account)


def credit(state: StateWriter, who: bytes, amount: int) -> None:
    """Add to the free balance. The amount comes from a debit, a release or a mint of the same step."""
    if amount:
        account = read_account(state, who)
        write_account(state, who, Account(account.nonce, account.free + amount, account.reserved))


def debit(state: StateWriter, who: bytes, amount: int) -> None:
    """Take from the free balance. Raises InsufficientBalance."""
    account = read_account(state, who)
    if account.free < amount:
        raise InsufficientBalance(f"{account.free} nmyl are free, {amount} are needed")
    write_account(state, who, Account(account.nonce, account.free - amount, account.reserved))


def hold(state: StateWriter, who: bytes, reason: HoldReason, amount: int) -> None:
    """Move free balance under a hold. Raises InsufficientBalance."""
    account = read_account(state, who)
    if account.free < amount:
        raise InsufficientBalance(f"{account.free} nmyl are free, {amount} are needed")
    write_account(state, who, Account(account.nonce, account.free - amount, account.reserved + amount))
    _write_hold(state, who, reason, read_hold(state, who, reason) + amount)


def release(state: StateWriter, who: bytes, reason: HoldReason, amount: int) -> None:
    """Give held balance back to its owner."""
    take_held(state, who, reason, amount)
    credit(state, who, amount)


def take_held(state: StateWriter, who: bytes, reason: HoldReason, amount: int) -> None:
    """Take held balance away from `who`; the caller credits or burns the same amount in the same step."""
    held = read_hold(state, who, reason)
    assert amount <= held, "the records of a module never exceed its hold"
    account = read_account(state, who)
    write_account(state, who, Account(account.nonce, account.free, account.reserved - amount))
    _write_hold(state, who, reason, held - amount)


def pay_held(state: StateWriter, who: bytes, reason: HoldReason, dest: bytes, amount: int) -> None:
    """Move held balance of `who` to the free balance of `dest`."""
    take_held(state, who, reason, amount)
    credit(state, dest, amount)


def burn_held(state: StateWriter, who: bytes, reason: HoldReason, amount: int) -> None:
    """Destroy held balance."""
    take_held(state, who, reason, amount)
    shrink_issuance(state, amount)


def mint(state: StateWriter, who: bytes, amount: int) -> None:
    """Create new money."""
    credit(state, who, amount)
    issuance.write(state, issuance.read(state) + amount)


def shrink_issuance(state: StateWriter, amount: int) -> None:
    """Reduce the issuance by money that an account already lost and no other account received."""
    if amount:
        issuance.write(state, issuance.read(state) - amount)


def _write_hold(state: StateWriter, who: bytes, reason: HoldReason, amount: int) -> None:
    if amount:
        holds.write(state, who, int(reason), amount)
    else:
        holds.delete(state, who, int(reason))
