"""Approving, running and withdrawing operations of accounts that several keys sign for (multisig.md).

Incentives: an approval names the block in which its operation was opened, so a late or replayed approval counts for
that operation only. An operation is approved in later blocks only, so a height identifies one operation even when
the same call is opened, run and opened again. The deposit pays for the operation's place in the state.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment, Inner
from consensus.runtime.multisig import state as multisig
from consensus.runtime.multisig.errors import (
    AlreadyApproved,
    AlreadyOpen,
    BadThreshold,
    CallNeeded,
    NotOpen,
    NotOpener,
    OpenedThisBlock,
    SignatoriesOutOfOrder,
    SignerInOthers,
    TooManySignatories,
    WrongOpening,
)
from consensus.runtime.multisig.events import (
    MultisigApproved,
    MultisigCancelled,
    MultisigExecuted,
    MultisigFailed,
    MultisigOpened,
)
from consensus.runtime.multisig.state import Operation
from proto_specs.limits import MULTISIG_SIGNATORIES_MAX
from proto_specs.types.calls import ApproveAsMulti, AsMulti, CancelAsMulti
from proto_specs.types.multisig import MultisigOwners, compute_call_hash, compute_multisig_account


def as_multi(env: Environment, signer: bytes, call: AsMulti, inner: Inner) -> None:
    """Approve an operation. The last approval runs the call in a layer of its own, with the account as its origin.

    If that call fails, an event says so; the approval stands and the operation is over. Raises the errors of
    `validate_owners` and `_find_operation`, AlreadyOpen, AlreadyApproved, InsufficientBalance.
    """
    owners = validate_owners(signer, call.threshold, call.others)
    account, call_hash = compute_multisig_account(owners), compute_call_hash(call.call)
    if call.opened_height is None:
        _open(env, signer, owners, account, call_hash)
        return
    operation = _find_operation(env, signer, account, call_hash, call.opened_height)
    approvals = len(operation.approvals) + 1
    if approvals < owners.threshold:
        _approve(env, signer, owners, account, call_hash, operation)
        return
    env.emit(MultisigApproved(account, call_hash, signer, approvals, owners.threshold))
    _close(env, account, call_hash, operation)
    env.events_reserved += 1
    error = inner.attempt(env, account, call.call)
    env.events_reserved -= 1
    if error is None:
        env.emit(MultisigExecuted(account, call_hash))
    else:
        env.emit(MultisigFailed(account, call_hash, error.module, error.name, error.item))


def approve_as_multi(env: Environment, signer: bytes, call: ApproveAsMulti) -> None:
    """Approve by the call's hash. Raises as `as_multi` does, and CallNeeded for the last approval."""
    owners = validate_owners(signer, call.threshold, call.others)
    account = compute_multisig_account(owners)
    if call.opened_height is None:
        _open(env, signer, owners, account, call.call_hash)
        return
    operation = _find_operation(env, signer, account, call.call_hash, call.opened_height)
    if len(operation.approvals) + 1 >= owners.threshold:
        raise CallNeeded("the last approval runs the call and has to bring it")
    _approve(env, signer, owners, account, call.call_hash, operation)


def cancel_as_multi(env: Environment, signer: bytes, call: CancelAsMulti) -> None:
    """Withdraw an operation. Raises the errors of `validate_owners`, NotOpen, WrongOpening, NotOpener."""
    owners = validate_owners(signer, call.threshold, call.others)
    account = compute_multisig_account(owners)
    operation = _read_operation(env, account, call.call_hash, call.opened_height)
    if operation.opener != signer:
        raise NotOpener("only who opened an operation withdraws it")
    _close(env, account, call.call_hash, operation)
    env.emit(MultisigCancelled(account, call.call_hash))


def validate_owners(signer: bytes, threshold: int, others: tuple[bytes, ...]) -> MultisigOwners:
    """The account's owners. Raises TooManySignatories, SignatoriesOutOfOrder, SignerInOthers, BadThreshold."""
    if len(others) + 1 > MULTISIG_SIGNATORIES_MAX:
        raise TooManySignatories(f"{len(others) + 1} signatories, {MULTISIG_SIGNATORIES_MAX} are allowed")
    if list(others) != sorted(set(others)):
        raise SignatoriesOutOfOrder("the others have to be in ascending order, each once")
    if signer in others:
        raise SignerInOthers("the signer is not one of the others")
    if not 2 <= threshold <= len(others) + 1:
        raise BadThreshold(f"a threshold of {threshold} for {len(others) + 1} signatories")
    return MultisigOwners(threshold, tuple(sorted((signer, *others))))


def _open(env: Environment, signer: bytes, owners: MultisigOwners, account: bytes, call_hash: bytes) -> None:
    """Store an operation with its first approval. Nothing runs yet, since the threshold is at least 2."""
    found = multisig.read_operation(env.state, account, call_hash)
    if found is not None:
        raise AlreadyOpen(f"this call was opened in block {found.opened_height}: approve it by that")
    deposit = multisig.compute_deposit(multisig.params.read(env.state), len(owners.signatories))
    ledger.hold(env.state, signer, HoldReason.MULTISIG_DEPOSIT, deposit)
    height = env.block.height
    multisig.operations.write(env.state, account, call_hash, Operation(height, signer, deposit, (signer,)))
    env.emit(MultisigOpened(account, call_hash, signer, height, deposit))


def _approve(
    env: Environment, signer: bytes, owners: MultisigOwners, account: bytes, call_hash: bytes, operation: Operation
) -> None:
    approved = replace(operation, approvals=(*operation.approvals, signer))
    multisig.operations.write(env.state, account, call_hash, approved)
    env.emit(MultisigApproved(account, call_hash, signer, len(approved.approvals), owners.threshold))


def _close(env: Environment, account: bytes, call_hash: bytes, operation: Operation) -> None:
    """Delete the operation and return its deposit before the call runs, so that the call can spend it."""
    multisig.operations.delete(env.state, account, call_hash)
    ledger.release(env.state, operation.opener, HoldReason.MULTISIG_DEPOSIT, operation.deposit)


def _find_operation(env: Environment, signer: bytes, account: bytes, call_hash: bytes, opened_height: int) -> Operation:
    """The operation that `signer` may approve. Raises NotOpen, WrongOpening, OpenedThisBlock, AlreadyApproved."""
    operation = _read_operation(env, account, call_hash, opened_height)
    if opened_height == env.block.height:
        raise OpenedThisBlock(f"approve from block {opened_height + 1} on")
    if signer in operation.approvals:
        raise AlreadyApproved("each signatory approves once")
    return operation


def _read_operation(env: Environment, account: bytes, call_hash: bytes, opened_height: int) -> Operation:
    operation = multisig.read_operation(env.state, account, call_hash)
    if operation is None:
        raise NotOpen("no operation for this call is open: open it without a height")
    if operation.opened_height != opened_height:
        raise WrongOpening(f"opened in block {operation.opened_height}, not {opened_height}")
    return operation
