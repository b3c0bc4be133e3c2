"""Moving everything: what stays, what goes, how it fails."""

from __future__ import annotations

import pytest

from consensus.runtime.balances.errors import BelowExistentialDeposit, InsufficientBalance, ZeroAmount
from consensus.runtime.balances.state import read_account
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.types import calls
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.chain import Chain

EVE, FERDIE = get_dev_identity("eve"), get_dev_identity("ferdie")


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_dev_spec(("alice",)))


@pytest.mark.parametrize("keep_alive", [False, True])
def test_everything_but_what_keeps_the_account(chain: Chain, keep_alive: bool) -> None:
    before, had = chain.free(FERDIE), chain.free(EVE)
    receipt = chain.expect_ok(EVE, calls.TransferAll(FERDIE.account, keep_alive))
    kept = chain.spec.params.balances.existential_deposit if keep_alive else 0
    assert chain.free(EVE) == kept
    assert chain.free(FERDIE) == before + had - receipt.fee - kept


@pytest.mark.parametrize("keep_alive", [False, True])
def test_a_hold_keeps_the_account(chain: Chain, keep_alive: bool) -> None:
    chain.expect_ok(EVE, calls.Bond(NMYL_PER_MYL))
    chain.expect_ok(EVE, calls.TransferAll(FERDIE.account, keep_alive))
    account = read_account(chain.state, EVE.account)
    least = chain.spec.params.balances.existential_deposit
    assert (account.free, account.reserved) == (max(least - NMYL_PER_MYL, 0), NMYL_PER_MYL)


def test_transfers_fail_and_change_nothing(chain: Chain) -> None:
    least = chain.spec.params.balances.existential_deposit
    chain.expect_error(EVE, calls.Transfer(FERDIE.account, 0), ZeroAmount)
    chain.expect_error(EVE, calls.Transfer(bytes([7]) * 32, least - 1), BelowExistentialDeposit)


def test_the_existential_deposit_itself_is_enough(chain: Chain) -> None:
    least, new = chain.spec.params.balances.existential_deposit, bytes([7]) * 32
    chain.expect_ok(EVE, calls.Transfer(new, least))
    assert read_account(chain.state, new).free == least


def test_a_transfer_to_oneself_moves_nothing_and_makes_nothing(chain: Chain) -> None:
    """What goes comes back: of the sender's rule nothing is left to break, and the receiver's counts it once."""
    least = chain.spec.params.balances.existential_deposit
    before = chain.free(EVE)
    receipt = chain.expect_ok(EVE, calls.Transfer(EVE.account, 1))
    fee = receipt.fee
    assert chain.free(EVE) == before - fee
    fee += chain.expect_ok(EVE, calls.Transfer(EVE.account, chain.free(EVE) - 2 * fee)).fee
    assert chain.free(EVE) == before - fee, "less than the deposit would stay, if it were not the receiver's"
    chain.expect_error(EVE, calls.Transfer(EVE.account, chain.free(EVE) + 1), InsufficientBalance)
    chain.expect_ok(EVE, calls.Transfer(FERDIE.account, chain.free(EVE) - least - fee * 3 // 4))
    assert chain.free(EVE) >= least
    chain.expect_error(EVE, calls.Transfer(EVE.account, least // 2), BelowExistentialDeposit)
    assert least // 2 < chain.free(EVE) < least, "the fee is paid, and the amount would have made up for it"
