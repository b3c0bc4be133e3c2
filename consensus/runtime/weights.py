"""What calls cost: 1 weight is 1 microsecond on the reference machine (one Zen4 core, Python 3.11; see fees.md).

Constants are measured, then rounded up; fees.md tells how to measure them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proto_specs.types import calls
from proto_specs.types.chain import Transaction

SIGNATURE_WEIGHT = 100
"""One Ed25519 verification with its payload's encoding and hash."""

TRANSACTION_WEIGHT = SIGNATURE_WEIGHT + 60
"""Decode, checks, nonce, fee, receipt: what every transaction costs before its call."""

_CALL_WEIGHTS: dict[type, Callable[[Any], int]] = {
    calls.Remark: lambda call: 20,
    calls.Transfer: lambda call: 60,
    calls.Bond: lambda call: 80,
    calls.Unbond: lambda call: 60,
    calls.WithdrawUnbonded: lambda call: 100,
    calls.RegisterValidator: lambda call: SIGNATURE_WEIGHT + 100,
    calls.RegisterModel: lambda call: 200 + len(call.manifest) // 16,
    calls.RegisterWorker: lambda call: SIGNATURE_WEIGHT + 200,
    calls.UpdateWorker: lambda call: 100,
    calls.RetireWorker: lambda call: 120,
    calls.RegisterVerifier: lambda call: 100,
    calls.OpenSession: lambda call: 150,
    calls.CloseSession: lambda call: 120,
    calls.Settle: lambda call: 2 * SIGNATURE_WEIGHT + 300 + len(call.stage_roots) * (SIGNATURE_WEIGHT + 400),
    calls.CommitVerdict: lambda call: 120,
    calls.RevealVerdict: lambda call: 1_000,
}


def compute_weight(transaction: Transaction) -> int:
    """Weight of a transaction with its call, and with what the call causes in later blocks (draws, resolution)."""
    call = transaction.body.call
    return TRANSACTION_WEIGHT + _CALL_WEIGHTS[type(call)](call)
