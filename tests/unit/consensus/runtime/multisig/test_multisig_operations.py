"""Accounts of several keys: approving, running, withdrawing; how each fails; what a cheat tries."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.balances.state import HoldReason, read_account, read_hold
from consensus.runtime.multisig import errors
from consensus.runtime.multisig import state as multisig
from consensus.runtime.multisig.events import MultisigExecuted, MultisigFailed
from consensus.runtime.receipts import ModuleError
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from proto_specs.limits import MULTISIG_SIGNATORIES_MAX
from proto_specs.types import calls
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.multisig import MultisigOwners, compute_call_hash, compute_multisig_account
from tests.unit.consensus.runtime.chain import Chain

ALICE, BOB, EVE, FERDIE = (get_dev_identity(name) for name in ("alice", "bob", "eve", "ferdie"))
OWNERS = tuple(sorted(one.account for one in (ALICE, BOB, EVE)))
ACCOUNT = compute_multisig_account(MultisigOwners(2, OWNERS))
PAY = calls.Transfer(FERDIE.account, NMYL_PER_MYL)
HASH = compute_call_hash(PAY)


def others(who: DevIdentity) -> tuple[bytes, ...]:
    return tuple(one for one in OWNERS if one != who.account)


def run(who: DevIdentity, opened: int | None, call: Any = PAY) -> calls.AsMulti:
    return calls.AsMulti(2, others(who), opened, call)


def approve(who: DevIdentity, opened: int | None) -> calls.ApproveAsMulti:
    return calls.ApproveAsMulti(2, others(who), opened, HASH)


def cancel(who: DevIdentity, opened: int) -> calls.CancelAsMulti:
    return calls.CancelAsMulti(2, others(who), opened, HASH)


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    chain = Chain(build_dev_spec(("alice",)))
    chain.expect_ok(FERDIE, calls.Transfer(ACCOUNT, 10 * NMYL_PER_MYL))
    return chain


def total(chain: Chain) -> int:
    account = read_account(chain.state, ACCOUNT)
    return account.free + account.reserved


def test_two_of_three_pay(chain: Chain) -> None:
    chain.expect_ok(BOB, approve(BOB, None))
    opened = chain.height
    assert read_hold(chain.state, BOB.account, HoldReason.MULTISIG_DEPOSIT) == multisig.compute_deposit(
        chain.spec.params.multisig, 3
    )
    receipt = chain.expect_ok(EVE, run(EVE, opened))
    assert MultisigExecuted(ACCOUNT, HASH) in receipt.events
    assert total(chain) == 9 * NMYL_PER_MYL
    assert read_hold(chain.state, BOB.account, HoldReason.MULTISIG_DEPOSIT) == 0
    assert multisig.read_operation(chain.state, ACCOUNT, HASH) is None


def test_a_call_that_fails_is_told_and_ends_the_operation(chain: Chain) -> None:
    much = calls.Transfer(FERDIE.account, 11 * NMYL_PER_MYL)
    chain.expect_ok(BOB, run(BOB, None, much))
    receipt = chain.expect_ok(EVE, run(EVE, chain.height, much))
    module = InsufficientBalance.module
    assert MultisigFailed(ACCOUNT, compute_call_hash(much), module, "InsufficientBalance", None) in receipt.events
    assert total(chain) == 10 * NMYL_PER_MYL
    assert multisig.read_operation(chain.state, ACCOUNT, compute_call_hash(much)) is None


def test_approving_twice_counts_once(chain: Chain) -> None:
    chain.expect_ok(BOB, run(BOB, None))
    opened = chain.height
    chain.expect_error(BOB, run(BOB, opened), errors.AlreadyApproved)
    chain.expect_error(BOB, approve(BOB, opened), errors.AlreadyApproved)
    chain.expect_error(EVE, run(EVE, None), errors.AlreadyOpen)
    assert total(chain) == 10 * NMYL_PER_MYL


def test_an_approval_reaches_no_operation_but_its_own(chain: Chain) -> None:
    chain.expect_ok(BOB, run(BOB, None))
    opened = chain.height
    chain.expect_error(EVE, run(EVE, opened - 1), errors.WrongOpening)
    chain.expect_ok(EVE, run(EVE, opened))
    chain.expect_error(ALICE, run(ALICE, opened), errors.NotOpen)
    chain.expect_ok(BOB, run(BOB, None))
    chain.expect_error(EVE, run(EVE, opened), errors.WrongOpening)
    assert total(chain) == 9 * NMYL_PER_MYL


def test_nothing_is_approved_in_the_block_that_opens_it(chain: Chain) -> None:
    opened = chain.height + 1
    executed = chain.block([chain.sign(BOB, run(BOB, None)), chain.sign(EVE, run(EVE, opened))])
    assert executed.receipts[1].error == ModuleError(errors.OpenedThisBlock.module, "OpenedThisBlock")


def test_the_last_approval_brings_the_call(chain: Chain) -> None:
    chain.expect_ok(BOB, approve(BOB, None))
    chain.expect_error(EVE, approve(EVE, chain.height), errors.CallNeeded)


def test_only_the_opener_withdraws(chain: Chain) -> None:
    chain.expect_error(BOB, cancel(BOB, 1), errors.NotOpen)
    chain.expect_ok(BOB, run(BOB, None))
    opened = chain.height
    chain.expect_error(EVE, cancel(EVE, opened), errors.NotOpener)
    chain.expect_error(BOB, cancel(BOB, opened + 1), errors.WrongOpening)
    chain.expect_ok(BOB, cancel(BOB, opened))
    assert read_hold(chain.state, BOB.account, HoldReason.MULTISIG_DEPOSIT) == 0
    chain.expect_error(EVE, run(EVE, opened), errors.NotOpen)


def test_somebody_else_signs_for_another_account(chain: Chain) -> None:
    chain.expect_ok(BOB, run(BOB, None))
    chain.expect_error(FERDIE, calls.AsMulti(2, others(EVE), chain.height, PAY), errors.NotOpen)
    assert total(chain) == 10 * NMYL_PER_MYL


@pytest.mark.parametrize(
    ("threshold", "named", "error"),
    [
        (1, others(BOB), errors.BadThreshold),
        (4, others(BOB), errors.BadThreshold),
        (2, (), errors.BadThreshold),
        (2, others(BOB)[::-1], errors.SignatoriesOutOfOrder),
        (2, (EVE.account, EVE.account), errors.SignatoriesOutOfOrder),
        (2, OWNERS, errors.SignerInOthers),
        (2, tuple(bytes([n]) * 32 for n in range(MULTISIG_SIGNATORIES_MAX)), errors.TooManySignatories),
    ],
)
@pytest.mark.parametrize("kind", ["as", "approve", "cancel"])
def test_owners_that_are_none(
    chain: Chain, kind: str, threshold: int, named: tuple[bytes, ...], error: type[errors.MultisigError]
) -> None:
    call = {
        "as": calls.AsMulti(threshold, named, None, PAY),
        "approve": calls.ApproveAsMulti(threshold, named, None, HASH),
        "cancel": calls.CancelAsMulti(threshold, named, 1, HASH),
    }[kind]
    chain.expect_error(BOB, call, error)
