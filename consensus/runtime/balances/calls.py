"""The balances module's call."""

from __future__ import annotations

from consensus.runtime.balances.errors import BelowExistentialDeposit, InsufficientBalance, ZeroAmount
from consensus.runtime.balances.events import Transferred
from consensus.runtime.balances.ledger import credit, debit
from consensus.runtime.balances.state import read_account, read_params
from consensus.runtime.context import Environment
from proto_specs.types.calls import Transfer


def transfer(env: Environment, signer: bytes, call: Transfer) -> None:
    """Move free balance. Both sides end with the existential deposit in total, or the signer with nothing.

    Raises ZeroAmount, InsufficientBalance, BelowExistentialDeposit.
    """
    if call.amount == 0:
        raise ZeroAmount("nothing to move")
    least = read_params(env.state).existential_deposit
    source = read_account(env.state, signer)
    if source.free < call.amount:
        raise InsufficientBalance(f"{source.free} nmyl are free, {call.amount} are needed")
    dest_total = sum_total(env, call.dest) + call.amount if call.dest != signer else source.free + source.reserved
    if dest_total < least:
        raise BelowExistentialDeposit(f"the receiver would have {dest_total} nmyl, less than {least}")
    left = source.free + source.reserved - call.amount
    if call.dest != signer and 0 < left < least:
        raise BelowExistentialDeposit(f"the sender would have {left} nmyl, less than {least}")
    debit(env.state, signer, call.amount)
    credit(env.state, call.dest, call.amount)
    env.emit(Transferred(signer, call.dest, call.amount))


def sum_total(env: Environment, who: bytes) -> int:
    """Free and reserved balance together."""
    account = read_account(env.state, who)
    return account.free + account.reserved
