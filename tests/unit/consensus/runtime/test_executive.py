"""Blocks as a whole: fees, validity, limits, receipts, and that the same block gives the same state everywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime import dispatch, errors
from consensus.runtime.balances import errors as balances_errors
from consensus.runtime.balances.errors import ZeroAmount
from consensus.runtime.balances.events import FeesBurned, TipsPaid, Transferred
from consensus.runtime.balances.state import read_account, read_issuance
from consensus.runtime.context import Environment
from consensus.runtime.executive import execute_block, propose_block
from consensus.runtime.fees import compute_fee, query_fee
from consensus.runtime.receipts import BlockEvents, compute_receipts_root
from consensus.runtime.system import state as system
from consensus.runtime.system.calls import compute_weight_price
from consensus.runtime.system.events import Remarked
from consensus.runtime.validity import validate_transaction
from consensus.runtime.weights import TRANSACTION_WEIGHT, compute_call_weight
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.codec import decode, encode
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import MORTALITY_BLOCKS_MAX
from proto_specs.merkle import compute_proof, is_proof_valid
from proto_specs.types import calls
from proto_specs.types.chain import Transaction, compute_extrinsic_hash
from tests.unit.consensus.runtime.chain import Chain

ALICE, BOB = get_dev_identity("alice"), get_dev_identity("bob")
NOBODY = bytes([7]) * 32
PRICES = replace(
    build_dev_spec().params.system,
    fee_base=10_000,
    byte_price=100,
    weight_price_min=1_000,
    weight_price_max=1_000_000,
    block_weight_max=800_000,
)
"""The prices of the examples in fees.md."""


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_dev_spec())


def build_chain(**params: Any) -> Chain:
    """A chain with other system parameters."""
    spec = build_dev_spec()
    return Chain(replace(spec, params=replace(spec.params, system=replace(PRICES, **params))))


def validate(chain: Chain, transaction: Transaction) -> Any:
    """As the mempool asks, for the next block."""
    return validate_transaction(
        chain.state,
        transaction,
        height=chain.height + 1,
        genesis=chain.genesis.hash,
        parent_hash=chain.block_hash(chain.height),
    )


def test_a_transfer_moves_money_and_burns_its_fee(chain: Chain) -> None:
    issuance, alice = read_issuance(chain.state), chain.free(ALICE)
    transaction = chain.sign(BOB, calls.Transfer(NOBODY, 5_000_000), tip=77)
    info = query_fee(chain.state, transaction)
    bob = chain.free(BOB)
    executed = chain.block([transaction])
    (receipt,) = executed.receipts
    assert receipt.extrinsic == compute_extrinsic_hash(transaction)
    assert (receipt.error, receipt.fee, receipt.tip, receipt.weight) == (None, info.fee, 77, info.weight)
    assert receipt.events == (Transferred(BOB.account, NOBODY, 5_000_000),)
    assert chain.free(BOB) == bob - 5_000_000 - info.fee - 77
    assert read_account(chain.state, NOBODY).free == 5_000_000
    assert chain.free(ALICE) == alice + 77
    assert read_issuance(chain.state) == issuance - info.fee
    assert executed.events.finalize[:2] == (TipsPaid(ALICE.account, 77), FeesBurned(info.fee))


def test_transfers_are_checked(chain: Chain) -> None:
    least = chain.spec.params.balances.existential_deposit
    chain.expect_error(BOB, calls.Transfer(NOBODY, 0), balances_errors.ZeroAmount)
    chain.expect_error(BOB, calls.Transfer(NOBODY, least - 1), balances_errors.BelowExistentialDeposit)
    chain.expect_error(BOB, calls.Transfer(ALICE.account, 1 << 63), balances_errors.InsufficientBalance)
    fee = query_fee(chain.state, chain.sign(BOB, calls.Transfer(ALICE.account, 1 << 49))).fee
    left = chain.free(BOB) - fee
    assert left > 1 << 49
    chain.expect_error(BOB, calls.Transfer(ALICE.account, left - least + 1), balances_errors.BelowExistentialDeposit)
    chain.expect_ok(BOB, calls.Transfer(BOB.account, 1))


def test_an_account_can_be_emptied_and_its_transactions_never_replay(chain: Chain) -> None:
    dave = SigningKey.from_seed(bytes([5]) * 32)
    rich = replace(get_dev_identity("nobody"), account_key=dave)
    chain.expect_ok(BOB, calls.Transfer(rich.account, 10**9))
    first = chain.sign(rich, calls.Transfer(ALICE.account, 10**6))
    chain.block([first])
    probe = chain.sign(rich, calls.Transfer(ALICE.account, 500_000_000))
    chain.expect_ok(rich, calls.Transfer(ALICE.account, chain.free(rich) - query_fee(chain.state, probe).fee))
    assert read_account(chain.state, rich.account).free == 0
    assert read_account(chain.state, rich.account).nonce == 2
    chain.expect_ok(BOB, calls.Transfer(rich.account, 10**9))
    with pytest.raises(errors.StaleNonce):
        validate(chain, first)


def test_remarks_and_failures_leave_receipts(chain: Chain) -> None:
    remark = chain.sign(BOB, calls.Remark(b"hello"))
    failing = chain.sign(BOB, calls.Unbond(1), nonce=1)
    executed = chain.block([remark, failing])
    assert executed.receipts[0].events == (Remarked(BOB.account, hash_tagged(Tag.PAYLOAD, b"hello")),)
    error = executed.receipts[1].error
    assert error is not None
    assert (error.module, error.error) == (calls.ModuleIndex.STAKING, "InsufficientStake")
    assert executed.weight == sum(one.weight for one in executed.receipts)
    items = [encode(executed.events), *(encode(one) for one in executed.receipts)]
    proof = compute_proof(items, 2)
    assert is_proof_valid(executed.receipts_root, encode(executed.receipts[1]), 2, 3, proof)
    assert executed.receipts_root == compute_receipts_root(executed.receipts, executed.events)
    assert decode(BlockEvents, items[0]) == executed.events


def test_a_failing_call_takes_its_writes_and_events_with_it(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_then_fail(env: Environment, signer: bytes, call: calls.Remark) -> None:
        system.beacon.write(env.state, bytes(32))
        env.emit(Remarked(signer, bytes(32)))
        raise ZeroAmount("after the fact")

    monkeypatch.setitem(dispatch.HANDLERS, calls.Remark, write_then_fail)
    chain.expect_error(BOB, calls.Remark(b""), ZeroAmount)


def test_fee_formula() -> None:
    assert compute_fee(PRICES, 1_000, 200, 185) == 10_000 + 200 * 100 + 185 * 1_000


@pytest.mark.parametrize(
    ("price", "used", "wanted"),
    [(1_000, 0, 1_000), (2_000, 400_000, 2_000), (2_000, 800_000, 2_031), (2_000, 0, 1_969), (2_000, 400_001, 2_001)],
)
def test_weight_price_follows_fullness(price: int, used: int, wanted: int) -> None:
    assert compute_weight_price(PRICES, price, used) == wanted


def test_weight_price_stays_in_its_bounds() -> None:
    params = replace(PRICES, weight_price_max=1_010)
    assert compute_weight_price(params, 1_005, 800_000) == 1_010
    assert compute_weight_price(params, 1_001, 0) == 1_000


def test_full_blocks_make_weight_dearer() -> None:
    call = calls.Transfer(NOBODY, 10**6)
    room = TRANSACTION_WEIGHT + compute_call_weight(call)
    chain = build_chain(block_weight_max=room, reserved_permille=0)
    used = chain.block([chain.sign(BOB, call)]).weight
    target = room // 2
    assert used == room
    assert system.read_weight_price(chain.state) == 1_000 + 1_000 * (used - target) // target // 64 > 1_000
    chain.skip(30)
    assert system.read_weight_price(chain.state) == 1_000


def test_validity_tells_what_the_mempool_needs(chain: Chain) -> None:
    chain.expect_ok(BOB, calls.Remark(b""))
    future = validate(chain, chain.sign(BOB, calls.Remark(b""), nonce=5, tip=9, birth_height=1, period_blocks=8))
    assert (future.nonce, future.expected_nonce, future.tip, future.expires_height) == (5, 1, 9, 9)
    assert future.free == chain.free(BOB)
    info = query_fee(chain.state, chain.sign(BOB, calls.Remark(b""), nonce=5, tip=9, birth_height=1, period_blocks=8))
    assert (future.fee, future.weight, future.size_bytes) == (info.fee, info.weight, info.size_bytes)
    assert validate(chain, chain.sign(BOB, calls.Remark(b""))).expires_height is None


def test_invalid_transactions_are_named(chain: Chain) -> None:
    chain.expect_ok(BOB, calls.Remark(b""))
    chain.skip(20)
    good = chain.sign(BOB, calls.Remark(b""))
    poor = replace(get_dev_identity("poor"))
    cases: list[tuple[Transaction, type[errors.InvalidTransaction], dict[str, Any]]] = [
        (chain.sign(BOB, calls.Remark(b""), nonce=0), errors.StaleNonce, {"expected": 1}),
        (replace(good, signature=bytes(64)), errors.BadSignature, {}),
        (replace(good, body=replace(good.body, tip=1)), errors.BadSignature, {}),
        (replace(good, body=replace(good.body, period_blocks=30)), errors.BadSignature, {}),
        (chain.sign(BOB, calls.Remark(b""), birth_height=22, period_blocks=4), errors.NotYetBorn, {"height": 22}),
        (chain.sign(BOB, calls.Remark(b""), birth_height=5, period_blocks=16), errors.Expired, {"last_height": 21}),
        (chain.sign(BOB, calls.Remark(b""), birth_height=5, period_blocks=5_000), errors.UnknownBirth, {}),
        (chain.sign(poor, calls.Remark(b"")), errors.CannotPayFee, {"free": 0}),
        (chain.sign(BOB, calls.Remark(b""), tip=1 << 63), errors.CannotPayFee, {}),
    ]
    for transaction, error, details in cases:
        with pytest.raises(error) as caught:
            validate(chain, transaction)
        assert caught.value.reason == error.__name__
        assert details.items() <= caught.value.details.items()
        with pytest.raises(errors.BlockError, match=error.__name__):
            execute_block(chain.state, chain.context(), (), [transaction])
    validate(chain, good)
    validate(chain, chain.sign(BOB, calls.Remark(b""), birth_height=21, period_blocks=1))
    validate(chain, chain.sign(BOB, calls.Remark(b""), birth_height=6, period_blocks=16))


def test_a_transaction_of_another_chain_is_refused(chain: Chain) -> None:
    other = Chain(build_dev_spec(name="other"))
    with pytest.raises(errors.BadSignature):
        validate(chain, other.sign(BOB, calls.Remark(b"")))


def test_birth_hashes_are_pruned(chain: Chain) -> None:
    chain.skip(3)
    chain.state.apply(((system.now.key, encode(system.Now(MORTALITY_BLOCKS_MAX, 0))),))
    chain.height = MORTALITY_BLOCKS_MAX
    chain.block()
    assert system.read_block_info(chain.state, 0) is None
    assert system.read_block_info(chain.state, 1) is not None


def test_an_oversized_transaction_is_refused() -> None:
    chain = build_chain(block_weight_max=300)
    big = calls.RegisterModel(bytes(48 * 1024))
    with pytest.raises(errors.TooLarge):
        validate(chain, chain.sign(BOB, big))


def test_a_gap_in_nonces_is_no_block_but_a_proposer_may_leave_it_out(chain: Chain) -> None:
    ahead = chain.sign(BOB, calls.Remark(b""), nonce=1)
    good = chain.sign(BOB, calls.Remark(b""), nonce=0)
    with pytest.raises(errors.BlockError, match="FutureNonce"):
        execute_block(chain.state, chain.context(), (), [ahead])
    taken, executed = propose_block(chain.state, chain.context(), (), [ahead, good, good])
    assert taken == (good,)
    assert execute_block(chain.state, chain.context(), (), taken) == executed


def test_block_limits_are_enforced() -> None:
    two = 2 * (TRANSACTION_WEIGHT + compute_call_weight(calls.Transfer(NOBODY, 10**6)))
    for params in ({"block_weight_max": two + 1}, {"block_bytes_max": 400}):
        chain = build_chain(**params)
        transactions = [chain.sign(BOB, calls.Transfer(NOBODY, 10**6), nonce=nonce) for nonce in range(5)]
        taken, executed = propose_block(chain.state, chain.context(), (), transactions)
        assert 0 < len(taken) < 5
        assert taken == tuple(transactions[: len(taken)])
        assert executed.weight <= chain.spec.params.system.block_weight_max
        assert executed.size_bytes <= chain.spec.params.system.block_bytes_max
        with pytest.raises(errors.BlockError, match="BlockFull"):
            execute_block(chain.state, chain.context(), (), transactions)


def test_height_time_and_proposer_are_checked(chain: Chain) -> None:
    context = chain.context()
    for wrong in (
        replace(context, height=2),
        replace(context, time_ms=chain.spec.genesis_time_ms),
        replace(context, proposer=bytes(32)),
    ):
        with pytest.raises(errors.BlockError):
            execute_block(chain.state, wrong, (), ())


def test_the_signature_check_can_be_replaced(chain: Chain) -> None:
    unsigned = replace(chain.sign(BOB, calls.Remark(b"")), signature=bytes(64))
    executed = execute_block(chain.state, chain.context(), (), [unsigned], is_signed=lambda one, extrinsic, birth: True)
    assert executed.receipts[0].error is None


def test_the_same_block_gives_the_same_result() -> None:
    first, second = Chain(build_dev_spec()), Chain(build_dev_spec())
    for chain in (first, second):
        chain.expect_ok(BOB, calls.Bond(10**12))
        chain.expect_ok(BOB, calls.Transfer(NOBODY, 10**7))
    assert first.state.items == second.state.items
    assert first.last == second.last
