"""What calls cost: 1 weight is 1 microsecond on the reference machine (one Zen4 core, CPython 3.11; see fees.md).

Constants were measured as CPU time on small states, state root and write of the changed keys included, then rounded up;
those of staking's newer calls, params, utility, multisig and equivocation are estimates. A call also
carries what it causes in later blocks: a settlement its draws, a reveal its share of counting the committee, a
proposal the count of its votes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proto_specs.types import calls
from proto_specs.types.chain import Transaction

SIGNATURE_WEIGHT = 70
"""One Ed25519 verification with its payload's encoding and hash."""

KEY_WEIGHT = 35
"""One changed key: its way through the state tree (30 of 1,000 in a state of a million) and into the database."""

TRANSACTION_WEIGHT = SIGNATURE_WEIGHT + KEY_WEIGHT + 25
"""Decode, checks, nonce, fee, receipt, the signer's account: what every transaction costs before its call."""

_ITEM_WEIGHT = 10
"""One call of a batch: its layer and its event."""

_STAGE_WEIGHT = SIGNATURE_WEIGHT + 200 + 8 * KEY_WEIGHT

_CALL_WEIGHTS: dict[type, Callable[[Any], int]] = {
    calls.Remark: lambda call: 10,
    calls.Transfer: lambda call: 20 + KEY_WEIGHT,
    calls.Bond: lambda call: 20 + 2 * KEY_WEIGHT,
    calls.Unbond: lambda call: 15 + KEY_WEIGHT,
    calls.WithdrawUnbonded: lambda call: 400 + 4 * KEY_WEIGHT,
    calls.RegisterValidator: lambda call: SIGNATURE_WEIGHT + 30 + 3 * KEY_WEIGHT,
    calls.Delegate: lambda call: 400 + 16 * KEY_WEIGHT,
    calls.Undelegate: lambda call: 450 + 22 * KEY_WEIGHT,
    calls.Redelegate: lambda call: 1_200 + 30 * KEY_WEIGHT,
    calls.ClaimRewards: lambda call: 400 + 16 * KEY_WEIGHT,
    calls.SetCommission: lambda call: 25 + KEY_WEIGHT,
    calls.Unjail: lambda call: 25 + KEY_WEIGHT,
    calls.RetireValidator: lambda call: 15 + KEY_WEIGHT,
    calls.RegisterModel: lambda call: 100 + len(call.manifest) // 6 + 2 * KEY_WEIGHT,
    calls.RegisterWorker: lambda call: SIGNATURE_WEIGHT + 40 + 4 * KEY_WEIGHT,
    calls.UpdateWorker: lambda call: 35 + KEY_WEIGHT,
    calls.RetireWorker: lambda call: 60 + 4 * KEY_WEIGHT,
    calls.RegisterVerifier: lambda call: 60 + KEY_WEIGHT,
    calls.OpenSession: lambda call: 80 + 6 * KEY_WEIGHT,
    calls.CloseSession: lambda call: 80 + 5 * KEY_WEIGHT,
    calls.Settle: lambda call: 2 * SIGNATURE_WEIGHT + 200 + 6 * KEY_WEIGHT + len(call.stage_roots) * _STAGE_WEIGHT,
    calls.CommitVerdict: lambda call: 40 + 2 * KEY_WEIGHT,
    calls.RevealVerdict: lambda call: 1_500,
    calls.TransferAll: lambda call: 20 + KEY_WEIGHT,
    calls.ProposeParams: lambda call: 2_500 + 10 * KEY_WEIGHT + 40 * len(call.changes),
    calls.VoteParams: lambda call: 250 + 2 * KEY_WEIGHT,
    calls.BatchAll: lambda call: 20 + sum(_ITEM_WEIGHT + compute_call_weight(one) for one in call.calls),
    calls.BatchEach: lambda call: 20 + sum(_ITEM_WEIGHT + compute_call_weight(one) for one in call.calls),
    calls.AsMulti: lambda call: _compute_multisig_weight(call) + compute_call_weight(call.call),
    calls.ApproveAsMulti: lambda call: _compute_multisig_weight(call),
    calls.CancelAsMulti: lambda call: _compute_multisig_weight(call),
    calls.ReportEquivocation: lambda call: 2 * SIGNATURE_WEIGHT + 60 + 6 * KEY_WEIGHT,
}


def compute_weight(transaction: Transaction) -> int:
    """Weight of a transaction with its call, and with what the call causes in later blocks (draws, resolution)."""
    return TRANSACTION_WEIGHT + compute_call_weight(transaction.body.call)


def compute_call_weight(call: calls.Call) -> int:
    """Weight of a call without its transaction, with all the calls it holds, whether they come to run or not."""
    return _CALL_WEIGHTS[type(call)](call)


def _compute_multisig_weight(call: calls.AsMulti | calls.ApproveAsMulti | calls.CancelAsMulti) -> int:
    """Hashing and comparing the owners, the operation with its approvals, the opener's deposit."""
    return 60 + len(call.others) + 4 * KEY_WEIGHT
