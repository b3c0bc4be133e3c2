"""Batches: all or none, each for itself, and no more than the calls alone would do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.runtime.balances.errors import InsufficientBalance, ZeroAmount
from consensus.runtime.balances.state import read_account
from consensus.runtime.receipts import ModuleError
from consensus.runtime.utility.errors import EmptyBatch
from consensus.runtime.utility.events import ItemCompleted, ItemFailed
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.types import calls
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.chain import Chain

EVE, FERDIE = get_dev_identity("eve"), get_dev_identity("ferdie")
NEW = bytes([7]) * 32
DESTS = (FERDIE.account, EVE.account, NEW)
TRANSFERS = st.lists(
    st.builds(
        calls.Transfer, st.sampled_from(DESTS), st.sampled_from((0, 1, NMYL_PER_MYL, 1 << 62)) | st.integers(0, 1 << 40)
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_dev_spec(("alice",)))


def transfer(amount: int) -> calls.Transfer:
    return calls.Transfer(FERDIE.account, amount)


def others(chain: Chain) -> list[int]:
    return [read_account(chain.state, one).free for one in (FERDIE.account, NEW)]


def test_an_empty_batch_is_refused(chain: Chain) -> None:
    chain.expect_error(EVE, calls.BatchAll(()), EmptyBatch)
    chain.expect_error(EVE, calls.BatchEach(()), EmptyBatch)


def test_one_failure_undoes_all_and_names_its_item(chain: Chain) -> None:
    before = others(chain)
    receipt = chain.submit(EVE, calls.BatchAll((transfer(5), transfer(0), transfer(6))))
    assert receipt.error == ModuleError(ZeroAmount.module, "ZeroAmount", 1)
    assert [type(one).__name__ for one in receipt.events] == ["ExtrinsicFailed"]
    assert others(chain) == before


def test_each_for_itself(chain: Chain) -> None:
    before = chain.free(FERDIE)
    receipt = chain.expect_ok(EVE, calls.BatchEach((transfer(5), transfer(1 << 62), transfer(6))))
    assert chain.free(FERDIE) == before + 11
    told = [one for one in receipt.events if isinstance(one, ItemCompleted | ItemFailed)]
    failed = ItemFailed(1, InsufficientBalance.module, "InsufficientBalance")
    assert told == [ItemCompleted(0), failed, ItemCompleted(2)]


@settings(max_examples=15, deadline=None)
@given(TRANSFERS)
def test_a_batch_does_what_its_calls_do_alone(transfers: list[calls.Transfer]) -> None:
    batch, alone = Chain(build_dev_spec(("alice",))), Chain(build_dev_spec(("alice",)))
    before, had = others(batch), batch.free(EVE)
    receipt = batch.expect_ok(EVE, calls.BatchEach(tuple(transfers)))
    receipts = [alone.submit(EVE, one) for one in transfers]
    assert others(batch) == others(alone)
    paid = sum(one.fee for one in receipts)
    assert batch.free(EVE) + receipt.fee == alone.free(EVE) + paid
    told = [isinstance(one, ItemCompleted) for one in receipt.events if isinstance(one, ItemCompleted | ItemFailed)]
    assert told == [one.error is None for one in receipts]
    everything = Chain(build_dev_spec(("alice",)))
    result = everything.submit(EVE, calls.BatchAll(tuple(transfers)))
    assert (result.error is None) == all(told)
    assert others(everything) == (others(alone) if all(told) else before)
    if not all(told):
        assert everything.free(EVE) == had - result.fee
