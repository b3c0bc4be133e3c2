"""Accounts, their holds with the reasons, and the total issuance. All amounts in nmyl."""

from __future__ import annotations

import enum

from consensus.state.reader import StateReader
from consensus.state.storage import StorageMap, StorageValue
from proto_specs.codec import U8, U64, record
from proto_specs.types.common import AccountId, Balance


@record
class BalancesParams:
    """`existential_deposit`: the least a transfer may leave on either side, unless it leaves nothing."""

    existential_deposit: Balance


class HoldReason(enum.IntEnum):
    """Why part of an account cannot be spent."""

    STAKE = 1
    WORKER_BOND = 2
    ESCROW = 3
    DELEGATION = 4
    MULTISIG_DEPOSIT = 5
    PROPOSAL_DEPOSIT = 6
    CLIENT_BOND = 7
    VERIFICATION_DEPOSIT = 8


@record
class Account:
    """One account. `reserved` is the sum of its holds. The nonce shares the record: every transaction writes both.

    A record with a nonce above zero is kept for ever, so that an emptied account's transactions cannot replay.
    """

    nonce: U64
    free: Balance
    reserved: Balance


EMPTY_ACCOUNT = Account(0, 0, 0)
VERIFICATION_POOL = b"myelin/verification-pool".ljust(32, b"\0")
"""Where the verification share of unchallenged work gathers. No key signs for it."""

params: StorageValue[BalancesParams] = StorageValue("balances.params", BalancesParams)
issuance: StorageValue[int] = StorageValue("balances.issuance", Balance)
accounts: StorageMap[Account] = StorageMap("balances.account", (AccountId,), Account)
holds: StorageMap[int] = StorageMap("balances.hold", (AccountId, U8), Balance)


def read_params(state: StateReader) -> BalancesParams:
    """The module's parameters."""
    return params.read(state)


def read_account(state: StateReader, who: bytes) -> Account:
    """The account, all zero when it never existed."""
    return accounts.read(state, who) or EMPTY_ACCOUNT


def read_hold(state: StateReader, who: bytes, reason: HoldReason) -> int:
    """The part of the account in nmyl that is held for `reason`."""
    return holds.read(state, who, reason) or 0


def read_issuance(state: StateReader) -> int:
    """All nmyl there are: the sum of free and reserved over all accounts."""
    return issuance.read(state)
