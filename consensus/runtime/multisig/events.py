"""Events of the multisig module. The events of a call that ran come before the event for its result."""

from __future__ import annotations

from typing import Annotated

from proto_specs.codec import U8, U16, U64, Max, variant
from proto_specs.limits import ERROR_NAME_BYTES_MAX
from proto_specs.types.common import AccountId, Balance, Hash32


@variant(0x0701)
class MultisigOpened:
    """`opener` opened an operation with the first approval and holds `deposit` for it."""

    account: AccountId
    call_hash: Hash32
    opener: AccountId
    opened_height: U64
    deposit: Balance


@variant(0x0702)
class MultisigApproved:
    """One more of the signatories approved: `approvals` of `threshold` so far."""

    account: AccountId
    call_hash: Hash32
    signatory: AccountId
    approvals: U16
    threshold: U16


@variant(0x0703)
class MultisigExecuted:
    """The approved call ran and succeeded."""

    account: AccountId
    call_hash: Hash32


@variant(0x0704)
class MultisigFailed:
    """The approved call ran and failed with this error, changing nothing. `item` is the call of a batch."""

    account: AccountId
    call_hash: Hash32
    module: U8
    error: Annotated[str, Max(ERROR_NAME_BYTES_MAX)]
    item: U16 | None


@variant(0x0705)
class MultisigCancelled:
    """The opener withdrew the operation."""

    account: AccountId
    call_hash: Hash32


MultisigEvent = MultisigOpened | MultisigApproved | MultisigExecuted | MultisigFailed | MultisigCancelled
