"""Accounts of several keys: how their ids and the hashes of approved calls are computed (multisig.md)."""

from __future__ import annotations

from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U16, Max, encode, record
from proto_specs.hashing import Tag, hash_record, hash_tagged
from proto_specs.types.calls import MultisigCall
from proto_specs.types.common import AccountId


@record
class MultisigOwners:
    """The owners of an account: any `threshold` of `signatories`, which are in ascending order, each once."""

    threshold: U16
    signatories: Annotated[tuple[AccountId, ...], Max(limits.MULTISIG_SIGNATORIES_MAX)]


def compute_multisig_account(owners: MultisigOwners) -> bytes:
    """The account of `threshold` of the signatories. No key signs for it."""
    return hash_record(Tag.MULTISIG, owners)


def compute_call_hash(call: MultisigCall) -> bytes:
    """The hash by which `ApproveAsMulti` and `CancelAsMulti` name a call."""
    return hash_tagged(Tag.CALL, encode(call, MultisigCall))
