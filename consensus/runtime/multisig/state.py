"""State of the multisig module: open operations with their approvals. Amounts are nmyl."""

from __future__ import annotations

from typing import Annotated

from consensus.state.reader import StateReader
from consensus.state.storage import StorageMap, StorageValue
from proto_specs import limits
from proto_specs.codec import U64, Max, record
from proto_specs.types.common import AccountId, Balance, Hash32


@record
class MultisigParams:
    """An open operation holds `deposit_base + signatories x deposit_per_signatory` of its opener's balance."""

    deposit_base: Balance
    deposit_per_signatory: Balance


@record
class Operation:
    """A call that waits for approvals. `deposit` is held of `opener` as HoldReason.MULTISIG_DEPOSIT.

    `approvals` are in the order they came, the opener's first.
    """

    opened_height: U64
    opener: AccountId
    deposit: Balance
    approvals: Annotated[tuple[AccountId, ...], Max(limits.MULTISIG_SIGNATORIES_MAX)]


params: StorageValue[MultisigParams] = StorageValue("multisig.params", MultisigParams)
operations: StorageMap[Operation] = StorageMap("multisig.operation", (AccountId, Hash32), Operation)


def read_operation(state: StateReader, account: bytes, call_hash: bytes) -> Operation | None:
    """The open operation of an account for a call, None when there is none."""
    return operations.read(state, account, call_hash)


def compute_deposit(params: MultisigParams, signatories: int) -> int:
    """nmyl held while an operation of an account of so many signatories is open."""
    return params.deposit_base + signatories * params.deposit_per_signatory
