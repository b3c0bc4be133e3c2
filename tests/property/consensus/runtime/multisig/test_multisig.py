"""Operations of a shared account in any order of openings, approvals and withdrawals, against a plain model."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.runtime.balances.state import HoldReason, read_account, read_hold
from consensus.runtime.multisig.state import compute_deposit, operations, params
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.types.calls import ApproveAsMulti, AsMulti, CancelAsMulti, Transfer
from proto_specs.types.multisig import MultisigOwners, compute_call_hash, compute_multisig_account
from tests.unit.consensus.runtime.chain import Chain

MYL = 10**9
OWNERS = [get_dev_identity(name) for name in ("bob", "charlie", "dave")]
EVE = get_dev_identity("eve")
SORTED = tuple(sorted(one.account for one in OWNERS))
PAYMENTS = (Transfer(EVE.account, 2 * MYL), Transfer(EVE.account, 3 * MYL))


@dataclass
class Open:
    """An operation of the model."""

    height: int
    opener: int
    approvals: set[int]


Step = tuple[str, int, int, int]
STEPS = st.tuples(
    st.sampled_from(["open", "open_by_hash", "approve", "run", "cancel"]),
    st.integers(0, 2),
    st.integers(0, 1),
    st.sampled_from([0, 0, 0, 1]),
)
"""(what, which owner, which payment, how far the named height is off)."""


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([2, 3]), st.lists(STEPS, max_size=14))
def test_any_order_runs_a_call_once_with_enough_approvals(
    threshold: int, steps: list[tuple[str, int, int, int]]
) -> None:
    chain = Chain(build_dev_spec())
    shared = compute_multisig_account(MultisigOwners(threshold, SORTED))
    chain.expect_ok(get_dev_identity("alice"), Transfer(shared, 100 * MYL))
    deposit = compute_deposit(params.read(chain.state), 3)
    model: dict[int, Open] = {}
    paid, before = 0, chain.free(EVE)
    for what, who, which, off in steps:
        signer, payment, known = OWNERS[who], PAYMENTS[which], model.get(which)
        others = tuple(one for one in SORTED if one != signer.account)
        named = (known.height if known else 1) + off
        is_named = known is not None and off == 0
        call: AsMulti | ApproveAsMulti | CancelAsMulti
        if what in ("open", "open_by_hash"):
            call = (
                AsMulti(threshold, others, None, payment)
                if what == "open"
                else ApproveAsMulti(threshold, others, None, compute_call_hash(payment))
            )
            succeeds = known is None
        elif what == "cancel":
            call = CancelAsMulti(threshold, others, named, compute_call_hash(payment))
            succeeds = known is not None and is_named and known.opener == who
        else:
            by_hash = what == "approve"
            call = (
                ApproveAsMulti(threshold, others, named, compute_call_hash(payment))
                if by_hash
                else AsMulti(threshold, others, named, payment)
            )
            is_last = known is not None and len(known.approvals) + 1 >= threshold
            succeeds = known is not None and is_named and who not in known.approvals and not (by_hash and is_last)
        receipt = chain.submit(signer, call)
        assert (receipt.error is None) == succeeds, (what, receipt.error)
        if not succeeds:
            pass
        elif known is None:
            model[which] = Open(chain.height, who, {who})
        elif what == "cancel":
            del model[which]
        else:
            known.approvals.add(who)
            if len(known.approvals) == threshold:
                del model[which]
                paid += payment.amount
        assert chain.free(EVE) == before + paid
        assert read_account(chain.state, shared).free == 100 * MYL - paid
        for place, one in enumerate(OWNERS):
            opened = sum(operation.opener == place for operation in model.values())
            assert read_hold(chain.state, one.account, HoldReason.MULTISIG_DEPOSIT) == opened * deposit
        stored = {operation.opened_height: len(operation.approvals) for _, operation in operations.iterate(chain.state)}
        assert stored == {one.height: len(one.approvals) for one in model.values()}
