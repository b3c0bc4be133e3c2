"""The settler's deposit for verification: whoever brings what nobody can judge pays for the attempt. Economics first:

- a settler deposits `verification_deposit` for each stage and has it back when the stage is paid, or when the worker's
  own bond pays for the verdict;
- a stage that ends without a verdict forfeits it, to the pool that pays for verification: not to those who sat, since
  then being inconclusive would earn something.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import VERIFICATION_POOL, HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_events import DepositForfeited
from consensus.runtime.inference.committee_state import VerificationDeposit


def hold(env: Environment, settler: bytes, request: bytes, stages: int) -> None:
    """Take the deposit for a request's stages. Raises InsufficientBalance."""
    per_stage = inference.params.read(env.state).verification_deposit
    if per_stage:
        ledger.hold(env.state, settler, HoldReason.VERIFICATION_DEPOSIT, per_stage * stages)
        committees.deposits.write(env.state, request, VerificationDeposit(settler, per_stage, stages))


def close_stage(env: Environment, request: bytes, index: int, *, is_forfeit: bool) -> None:
    """Give one stage's deposit back, or to the pool."""
    deposit = committees.deposits.read(env.state, request)
    if deposit is None:
        return
    dest = VERIFICATION_POOL if is_forfeit else deposit.settler
    ledger.pay_held(env.state, deposit.settler, HoldReason.VERIFICATION_DEPOSIT, dest, deposit.per_stage)
    left = replace(deposit, stages=deposit.stages - 1)
    if left.stages:
        committees.deposits.write(env.state, request, left)
    else:
        committees.deposits.delete(env.state, request)
    if is_forfeit:
        env.emit(DepositForfeited(request, index, deposit.settler, deposit.per_stage))


def close_request(env: Environment, request: bytes) -> None:
    """Give back what is left, for stages that never came."""
    deposit = committees.deposits.read(env.state, request)
    if deposit is not None:
        amount = deposit.per_stage * deposit.stages
        ledger.release(env.state, deposit.settler, HoldReason.VERIFICATION_DEPOSIT, amount)
        committees.deposits.delete(env.state, request)
