"""Weights of calls and what they limit: nothing inside a call is for nothing, and no block is over its limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.runtime import errors, weights
from consensus.runtime.executive import execute_block, propose_block
from consensus.runtime.params.bounds import BOUNDS, GOVERNANCE_FEE_MAX
from consensus.runtime.weights import CALL_WEIGHT_MAX, TRANSACTION_WEIGHT, compute_call_weight, compute_weight
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs import limits
from proto_specs.codec import encode
from proto_specs.types import calls
from proto_specs.types.chain import Transaction, TransactionBody
from proto_specs.types.promise_calls import JoinSettlement, ReportDoublePromise
from proto_specs.types.statement import SignedStatement, Span, Statement
from tests.unit.consensus.runtime.chain import Chain

BOB = get_dev_identity("bob")
ACCOUNT = bytes([7]) * 32
NO_ORDER: Any = type("Order", (), {"order": type("Path", (), {"path": ()})})
NOTHING = Statement(ACCOUNT, ACCOUNT, (), 0, 0, 0, 0, (), (), ACCOUNT)
PATHS: Any = [
    type("Order", (), {"order": type("Path", (), {"path": ((),) * size})}) for size in range(limits.STAGES_MAX + 1)
]
ROOTS: Any = ((),) * limits.STAGES_MAX

GROWING: dict[type, Callable[[int], Any]] = {
    calls.Remark: lambda size: calls.Remark(bytes(size)),
    calls.RegisterModel: lambda size: calls.RegisterModel(bytes(size)),
    calls.RegisterWorker: lambda size: calls.RegisterWorker(
        ACCOUNT, 0, 1, 1, ACCOUNT, bytes(64), "p", ("a",) * size, 1, 1
    ),
    calls.UpdateWorker: lambda size: calls.UpdateWorker(ACCOUNT, "p", ("a",) * size, 1, 1),
    calls.Settle: lambda size: calls.Settle(NO_ORDER, NO_ORDER, ROOTS[:size]),
    calls.SettleStatement: lambda size: calls.SettleStatement(
        SignedStatement(replace(NOTHING, sequences=(Span(0, size * 2_048),)), bytes(64), (bytes(64),) * size)
    ),
    JoinSettlement: lambda size: JoinSettlement(PATHS[size], None, ROOTS[:size]),
    ReportDoublePromise: lambda size: ReportDoublePromise(PATHS[size], None, PATHS[0]),
    calls.ProposeParams: lambda size: calls.ProposeParams((calls.ParamChange("a.b", 1),) * size),
    calls.BatchAll: lambda size: calls.BatchAll((calls.Remark(b""),) * size),
    calls.BatchEach: lambda size: calls.BatchEach((calls.Remark(b""),) * size),
    calls.AsMulti: lambda size: calls.AsMulti(2, (ACCOUNT,) * size, None, calls.Remark(b"")),
    calls.ApproveAsMulti: lambda size: calls.ApproveAsMulti(2, (ACCOUNT,) * size, None, ACCOUNT),
    calls.CancelAsMulti: lambda size: calls.CancelAsMulti(2, (ACCOUNT,) * size, 1, ACCOUNT),
}
"""Every call that has a component, at a size of it."""

MOST = {
    calls.Remark: 1_024,
    calls.RegisterModel: limits.MANIFEST_BYTES_MAX,
    calls.RegisterWorker: limits.WORKER_ADDRESSES_MAX,
    calls.UpdateWorker: limits.WORKER_ADDRESSES_MAX,
    calls.Settle: limits.STAGES_MAX,
    calls.SettleStatement: limits.STAGES_MAX,
    JoinSettlement: limits.STAGES_MAX,
    ReportDoublePromise: limits.STAGES_MAX,
    calls.ProposeParams: limits.PARAM_CHANGES_MAX,
    calls.BatchAll: limits.BATCH_CALLS_MAX,
    calls.BatchEach: limits.BATCH_CALLS_MAX,
    calls.AsMulti: limits.MULTISIG_SIGNATORIES_MAX,
    calls.ApproveAsMulti: limits.MULTISIG_SIGNATORIES_MAX,
    calls.CancelAsMulti: limits.MULTISIG_SIGNATORIES_MAX,
}

inner_calls = st.one_of(
    st.binary(max_size=64).map(calls.Remark),
    st.integers(0, 1 << 40).map(lambda amount: calls.Transfer(ACCOUNT, amount)),
    st.just(calls.Redelegate(ACCOUNT, ACCOUNT, 1)),
    st.just(calls.WithdrawUnbonded()),
    st.binary(max_size=4_096).map(calls.RegisterModel),
)


def test_every_component_has_its_growing_call() -> None:
    assert GROWING.keys() == MOST.keys() == weights.COMPONENTS.keys()


@pytest.mark.parametrize("kind", GROWING, ids=lambda kind: kind.__name__)
def test_more_of_a_component_weighs_more(kind: type) -> None:
    build, most = GROWING[kind], MOST[kind]
    found = [compute_call_weight(build(size)) for size in (0, 1, most // 2, most)]
    assert found == sorted(found)
    assert found[-1] > found[0]


@given(st.lists(inner_calls, max_size=20))
def test_what_holds_calls_weighs_at_least_what_they_do(held: list[Any]) -> None:
    total = sum(compute_call_weight(one) for one in held)
    for kind in (calls.BatchAll, calls.BatchEach):
        batch = kind(tuple(held))
        assert compute_call_weight(batch) >= total
        assert compute_call_weight(calls.AsMulti(2, (ACCOUNT,), 1, batch)) >= compute_call_weight(batch)


def test_an_operation_weighs_the_hashing_of_what_it_holds() -> None:
    for held in (1, limits.BATCH_CALLS_MAX):
        batch = calls.BatchAll((calls.Remark(b""),) * held)
        own = compute_call_weight(calls.AsMulti(2, (ACCOUNT,), 1, batch)) - compute_call_weight(batch)
        assert own >= compute_call_weight(calls.AsMulti(2, (ACCOUNT,), 1, calls.Remark(b""))) - 1


def test_a_single_call_fits_into_every_block_a_vote_can_make() -> None:
    """But for what holds calls, whose weight is theirs."""
    holding = {calls.BatchAll, calls.BatchEach, calls.AsMulti}
    for kind in set(GROWING) - holding:
        assert TRANSACTION_WEIGHT + compute_call_weight(GROWING[kind](MOST[kind])) <= CALL_WEIGHT_MAX, kind
    assert max(base for base, _ in weights._PRICES.values()) <= (CALL_WEIGHT_MAX - TRANSACTION_WEIGHT) * 1_000  # noqa: SLF001
    vote = TRANSACTION_WEIGHT + compute_call_weight(calls.VoteParams(0, True))
    assert BOUNDS["system.block_weight_max"].least >= CALL_WEIGHT_MAX + 24 * vote


def test_governance_stays_affordable_at_the_highest_prices() -> None:
    names = [f"{'m' * 31}.{number:032}" for number in range(limits.PARAM_CHANGES_MAX)]
    largest = calls.ProposeParams(tuple(calls.ParamChange(name, (1 << 64) - 1) for name in names))
    for call in (largest, calls.VoteParams((1 << 64) - 1, True)):
        body = TransactionBody(ACCOUNT, (1 << 64) - 1, call, 0, 0, 0)
        transaction = Transaction(body, bytes(64))
        fee = BOUNDS["system.fee_base"].most + len(encode(transaction)) * BOUNDS["system.byte_price"].most
        assert fee + compute_weight(transaction) * BOUNDS["system.weight_price_max"].most <= GOVERNANCE_FEE_MAX


def test_a_statement_of_10_000_requests_weighs_at_most_two_settlements() -> None:
    stated = calls.SettleStatement(
        SignedStatement(replace(NOTHING, sequences=(Span(0, 10_000),)), bytes(64), (bytes(64),) * 3)
    )
    single = calls.Settle(NO_ORDER, NO_ORDER, ROOTS[:3])
    assert compute_call_weight(stated) <= 2 * compute_call_weight(single)


def test_numbers_that_no_session_has_weigh_as_all_that_it_has() -> None:
    """A statement is weighed before anything of it is looked at."""

    def weigh(end: int) -> int:
        spans = (Span(0, end), Span(5, 3))
        return compute_call_weight(calls.SettleStatement(SignedStatement(replace(NOTHING, sequences=spans), b"", ())))

    assert weigh(limits.SESSION_SEQUENCES_MAX) == weigh(2**64 - 1) < CALL_WEIGHT_MAX


def test_a_call_that_nobody_measured_weighs_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {name: costs for name, costs in weights.table.CALLS.items() if name != "Transfer"}
    monkeypatch.setattr(weights.table, "CALLS", without)
    assert not weights.is_measured(calls.Transfer)
    assert weights._compile(calls.Transfer) == (CALL_WEIGHT_MAX * 1_000, ())  # noqa: SLF001
    other = {**without, "Remark": {"": (1, 0, 0, 0, 0)}}
    monkeypatch.setattr(weights.table, "CALLS", other)
    assert not weights.is_measured(calls.Remark), "the table lacks its component"


@pytest.mark.parametrize("over", [0, 1])
def test_a_block_is_full_at_its_limit_and_invalid_one_over(over: int) -> None:
    """The last unit of weight decides; a producer stops where the others would refuse."""
    spec = build_dev_spec()
    batch = calls.BatchEach((calls.Transfer(ACCOUNT, 10**6),) * 3)
    held = [batch, calls.Transfer(ACCOUNT, 10**6), calls.Remark(bytes(100))]
    sizes = [TRANSACTION_WEIGHT + compute_call_weight(one) for one in held]
    system = replace(spec.params.system, block_weight_max=sum(sizes) - over, reserved_permille=0)
    chain = Chain(replace(spec, params=replace(spec.params, system=system)))
    transactions = [chain.sign(BOB, call, nonce=nonce) for nonce, call in enumerate(held)]
    taken, executed = propose_block(chain.state, chain.context(), (), transactions)
    assert len(taken) == len(held) - over
    assert executed.weight == sum(sizes[: len(taken)]) <= system.block_weight_max
    if over:
        with pytest.raises(errors.BlockError, match="BlockFull"):
            execute_block(chain.state, chain.context(), (), transactions)
    else:
        assert execute_block(chain.state, chain.context(), (), transactions) == executed


def test_a_failing_call_fills_the_block_as_much() -> None:
    chain = Chain(build_dev_spec())
    failing = chain.sign(BOB, calls.Transfer(ACCOUNT, 0))
    executed = execute_block(chain.state, chain.context(), (), [failing])
    assert executed.receipts[0].error is not None
    assert executed.weight == compute_weight(failing)


def test_the_table_covers_the_union() -> None:
    assert len(get_args(calls.Call)) == len(weights._PRICES)  # noqa: SLF001
