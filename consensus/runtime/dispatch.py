"""Which function answers which call. The only place where all modules meet their calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consensus.runtime.balances import calls as balances
from consensus.runtime.context import Environment
from consensus.runtime.inference import calls as inference
from consensus.runtime.inference import equivocation, sessions, settlement, verdicts
from consensus.runtime.staking import calls as staking
from consensus.runtime.system import calls as system
from proto_specs.types import calls

Handler = Callable[[Environment, bytes, Any], None]

HANDLERS: dict[type, Handler] = {
    calls.Remark: system.remark,
    calls.Transfer: balances.transfer,
    calls.Bond: staking.bond,
    calls.Unbond: staking.unbond,
    calls.WithdrawUnbonded: staking.withdraw_unbonded,
    calls.RegisterValidator: staking.register_validator,
    calls.RegisterModel: inference.register_model,
    calls.RegisterWorker: inference.register_worker,
    calls.UpdateWorker: inference.update_worker,
    calls.RetireWorker: inference.retire_worker,
    calls.RegisterVerifier: inference.register_verifier,
    calls.OpenSession: sessions.open_session,
    calls.CloseSession: sessions.close_session,
    calls.Settle: settlement.settle,
    calls.CommitVerdict: verdicts.commit_verdict,
    calls.RevealVerdict: verdicts.reveal_verdict,
    calls.ReportEquivocation: equivocation.report_equivocation,
}


def dispatch(env: Environment, signer: bytes, call: Any) -> None:
    """Run a call. Raises CallError; the caller undoes what it wrote."""
    HANDLERS[type(call)](env, signer, call)
