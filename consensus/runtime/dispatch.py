"""Which function handles which call. The only place where all modules meet their calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consensus.runtime.balances import calls as balances
from consensus.runtime.context import Environment, Inner
from consensus.runtime.errors import CallError
from consensus.runtime.inference import absence, doubles, equivocation, joins, moves, sessions, statements, verdicts
from consensus.runtime.inference import calls as inference
from consensus.runtime.multisig import calls as multisig
from consensus.runtime.params import calls as params
from consensus.runtime.staking import calls as staking
from consensus.runtime.staking import delegation_calls as delegations
from consensus.runtime.system import calls as system
from consensus.runtime.system.errors import TooManyEvents
from consensus.runtime.utility import calls as utility
from proto_specs.limits import EVENTS_PER_EXTRINSIC_MAX
from proto_specs.types import calls
from proto_specs.types.promise_calls import JoinSettlement, ReportDoublePromise

Handler = Callable[[Environment, bytes, Any], None]
NestingHandler = Callable[[Environment, bytes, Any, Inner], None]

HANDLERS: dict[type, Handler] = {
    calls.Remark: system.remark,
    calls.Transfer: balances.transfer,
    calls.TransferAll: balances.transfer_all,
    calls.Bond: staking.bond,
    calls.Unbond: staking.unbond,
    calls.WithdrawUnbonded: staking.withdraw_unbonded,
    calls.RegisterValidator: staking.register_validator,
    calls.Delegate: delegations.delegate,
    calls.Undelegate: delegations.undelegate,
    calls.Redelegate: delegations.redelegate,
    calls.ClaimRewards: delegations.claim_rewards,
    calls.SetCommission: staking.set_commission,
    calls.Unjail: staking.unjail,
    calls.RetireValidator: staking.retire_validator,
    calls.RegisterModel: inference.register_model,
    calls.RegisterWorker: inference.register_worker,
    calls.UpdateWorker: inference.update_worker,
    calls.MoveWorker: moves.move_worker,
    calls.RetireWorker: inference.retire_worker,
    calls.LeaveWorker: absence.leave_worker,
    calls.ReportAbsent: absence.report_absent,
    calls.RegisterVerifier: inference.register_verifier,
    calls.UnregisterVerifier: inference.unregister_verifier,
    calls.OpenSession: sessions.open_session,
    calls.TopUpSession: sessions.top_up_session,
    calls.CloseSession: sessions.close_session,
    calls.Settle: joins.settle,
    JoinSettlement: joins.join_settlement,
    ReportDoublePromise: doubles.report_double_promise,
    calls.SettleStatement: statements.settle_statement,
    calls.CommitVerdict: verdicts.commit_verdict,
    calls.RevealVerdict: verdicts.reveal_verdict,
    calls.ProposeParams: params.propose_params,
    calls.VoteParams: params.vote_params,
    calls.ApproveAsMulti: multisig.approve_as_multi,
    calls.CancelAsMulti: multisig.cancel_as_multi,
    calls.ReportEquivocation: equivocation.report_equivocation,
}


NESTING_HANDLERS: dict[type, NestingHandler] = {
    calls.BatchAll: utility.batch_all,
    calls.BatchEach: utility.batch_each,
    calls.AsMulti: multisig.as_multi,
}
"""Handlers of calls that hold other calls. They get the means to run them, since no module knows all the others."""


def attempt(env: Environment, origin: bytes, call: Any) -> CallError | None:
    """Runs a call in a new layer. When the call fails, its writes and events are undone and the error is returned."""
    count = len(env.events)
    env.state.begin()
    try:
        dispatch(env, origin, call)
        if len(env.events) + env.events_reserved > EVENTS_PER_EXTRINSIC_MAX:
            raise TooManyEvents(f"an extrinsic has at most {EVENTS_PER_EXTRINSIC_MAX} events")
    except CallError as error:
        env.state.rollback()
        del env.events[count:]
        return error
    env.state.commit()
    return None


def dispatch(env: Environment, origin: bytes, call: Any) -> None:
    """Run a call in the caller's layer. Raises CallError; the caller undoes what it wrote."""
    nesting = NESTING_HANDLERS.get(type(call))
    if nesting is None:
        HANDLERS[type(call)](env, origin, call)
    else:
        nesting(env, origin, call, INNER)


def _dispatch_inner(env: Environment, origin: bytes, call: Any) -> None:
    with env.enter_inner():
        dispatch(env, origin, call)


def _attempt_inner(env: Environment, origin: bytes, call: Any) -> CallError | None:
    with env.enter_inner():
        return attempt(env, origin, call)


INNER = Inner(_dispatch_inner, _attempt_inner)
