"""The balances module's calls."""

from __future__ import annotations

from consensus.runtime.balances.errors import BelowExistentialDeposit, InsufficientBalance, ZeroAmount
from consensus.runtime.balances.events import Transferred
from consensus.runtime.balances.ledger import credit, debit
from consensus.runtime.balances.state import read_account, read_params
from consensus.runtime.context import Environment
from proto_specs.types.calls import Transfer, TransferAll


def transfer(env: Environment, signer: bytes, call: Transfer) -> None:
    """Move free balance. Afterwards each side has at least the existential deposit in total, or the signer has nothing.

    Raises ZeroAmount, InsufficientBalance, BelowExistentialDeposit.
    """
    _move(env, signer, call.dest, call.amount)


def transfer_all(env: Environment, signer: bytes, call: TransferAll) -> None:
    """Move as much free balance as a transfer may: all of it, or all above the existential deposit.

    The deposit stays when `keep_alive` is set or when something is held (the account then exists anyway); holds count
    towards it, and free balance covers the rest. Raises ZeroAmount, BelowExistentialDeposit.
    """
    account = read_account(env.state, signer)
    least = read_params(env.state).existential_deposit
    stays = call.keep_alive or account.reserved > 0
    kept = max(least - account.reserved, 0) if stays else 0
    _move(env, signer, call.dest, max(account.free - kept, 0))


def sum_total(env: Environment, who: bytes) -> int:
    """Free and reserved balance together."""
    account = read_account(env.state, who)
    return account.free + account.reserved


def _move(env: Environment, signer: bytes, dest: bytes, amount: int) -> None:
    if amount == 0:
        raise ZeroAmount("nothing to move")
    least = read_params(env.state).existential_deposit
    source = read_account(env.state, signer)
    if source.free < amount:
        raise InsufficientBalance(f"{source.free} nmyl are free, {amount} are needed")
    dest_total = sum_total(env, dest) + amount if dest != signer else source.free + source.reserved
    if dest_total < least:
        raise BelowExistentialDeposit(f"the receiver would have {dest_total} nmyl, less than {least}")
    left = source.free + source.reserved - amount
    if dest != signer and 0 < left < least:
        raise BelowExistentialDeposit(f"the sender would have {left} nmyl, less than {least}")
    debit(env.state, signer, amount)
    credit(env.state, dest, amount)
    env.emit(Transferred(signer, dest, amount))
