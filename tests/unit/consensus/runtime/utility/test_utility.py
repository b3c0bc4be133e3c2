"""Batches: all or nothing, and each for itself; what is inside costs and obeys what it does outside."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.runtime import dispatch
from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.receipts import ModuleError
from consensus.runtime.system.errors import TooManyEvents
from consensus.runtime.utility.errors import EmptyBatch
from consensus.runtime.weights import compute_call_weight, compute_weight
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.limits import BATCH_CALLS_MAX
from proto_specs.types.calls import BatchAll, BatchEach, Bond, ModuleIndex, OpenSession, Remark, Transfer, Unbond
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.inference.inference_world import World

MYL = 10**9
BOB, EVE = get_dev_identity("bob"), get_dev_identity("eve")
GOOD, BAD = Transfer(EVE.account, MYL), Transfer(EVE.account, 1 << 60)


def test_all_or_nothing() -> None:
    chain = Chain(build_dev_spec())
    before = chain.free(EVE)
    chain.expect_ok(BOB, BatchAll((GOOD, Remark(b"x"), GOOD)))
    assert chain.free(EVE) == before + 2 * MYL
    receipt = chain.submit(BOB, BatchAll((GOOD, GOOD, BAD, GOOD)))
    assert receipt.error == ModuleError(ModuleIndex.BALANCES, InsufficientBalance.__name__, 2)
    assert chain.free(EVE) == before + 2 * MYL
    assert [type(one).__name__ for one in receipt.events] == ["ExtrinsicFailed"]


def test_each_for_itself() -> None:
    chain = Chain(build_dev_spec())
    before = chain.free(EVE)
    receipt = chain.expect_ok(BOB, BatchEach((GOOD, BAD, Unbond(1), GOOD)))
    assert chain.free(EVE) == before + 2 * MYL
    told = [(type(one).__name__, getattr(one, "item", None)) for one in receipt.events]
    assert told == [
        ("Transferred", None),
        ("ItemCompleted", 0),
        ("ItemFailed", 1),
        ("ItemFailed", 2),
        ("Transferred", None),
        ("ItemCompleted", 3),
    ]


def test_an_empty_batch_is_an_error() -> None:
    chain = Chain(build_dev_spec())
    chain.expect_error(BOB, BatchAll(()), EmptyBatch)
    chain.expect_error(BOB, BatchEach(()), EmptyBatch)


def test_a_batch_weighs_more_than_what_is_in_it() -> None:
    """The attack: hide work in a batch to get it under the block's limit."""
    chain = Chain(build_dev_spec())
    for count in (1, 2, BATCH_CALLS_MAX):
        for kind in (BatchAll, BatchEach):
            batch = kind((Bond(1),) * count)
            assert compute_call_weight(batch) > count * compute_call_weight(Bond(1))
            assert compute_weight(chain.sign(BOB, batch)) > compute_call_weight(batch)


def test_two_sessions_in_one_batch_are_two_sessions() -> None:
    """Their ids come from the opener's nonce, which a batch uses once."""
    world = World()
    call = OpenSession(world.model, world.session_key.public_key, 1_000, 10 * MYL, 3)
    receipt = world.chain.expect_ok(EVE, BatchAll((call, call)))
    opened = [one.session for one in receipt.events if type(one).__name__ == "SessionOpened"]
    assert len(set(opened)) == 2


ITEM = st.one_of(
    st.builds(Transfer, st.sampled_from([EVE.account, BOB.account, bytes(32)]), st.integers(0, 1 << 51)),
    st.builds(Bond, st.integers(0, 1 << 50)),
    st.builds(Unbond, st.integers(0, 1 << 50)),
)


@given(st.lists(ITEM, min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_a_batch_does_what_its_calls_do_one_by_one(items: list[Transfer | Bond | Unbond]) -> None:
    batched, single = Chain(build_dev_spec()), Chain(build_dev_spec())
    fee = batched.expect_ok(BOB, BatchEach(tuple(items))).fee
    fees = sum(one.fee for one in single.block([single.sign(BOB, one, at) for at, one in enumerate(items)]).receipts)
    assert batched.free(BOB) + fee == single.free(BOB) + fees
    assert batched.free(EVE) == single.free(EVE)
    everything = Chain(build_dev_spec())
    receipt = everything.submit(BOB, BatchAll(tuple(items)))
    if receipt.error is not None:
        assert everything.free(BOB) + receipt.fee == Chain(build_dev_spec()).free(BOB)
    else:
        assert everything.free(BOB) + receipt.fee == batched.free(BOB) + fee


def test_more_events_than_an_extrinsic_may_have_fail_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack: a block whose receipts are too large to store. What was done is undone, the fee is paid."""
    monkeypatch.setattr(dispatch, "EVENTS_PER_EXTRINSIC_MAX", 5)
    chain = Chain(build_dev_spec())
    before, own = chain.free(EVE), chain.free(BOB)
    receipt = chain.submit(BOB, BatchAll((GOOD,) * 6))
    assert receipt.error == ModuleError(ModuleIndex.SYSTEM, TooManyEvents.__name__, None)
    assert [type(one).__name__ for one in receipt.events] == ["ExtrinsicFailed"]
    assert chain.free(EVE) == before
    assert chain.free(BOB) == own - receipt.fee
    chain.expect_ok(BOB, BatchAll((GOOD,) * 5))
