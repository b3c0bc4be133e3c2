"""Moves the money that a stage's outcome decides on. Economics first:

- the price of a settled request is held; each stage's part leaves the hold exactly once, by pay, refund or slash;
- pay: a share is burned, a share goes to the verifiers (or to the pool that pays for verification), the rest to the
  worker's operator;
- refund (never judged): the part goes back to the client, no stake is touched; where the committee found no verdict,
  the settler's deposit is forfeit (deposits.py);
- charge (withheld): the part goes back, and the worker's bond pays what it stands for (conduct.py): a share goes to
  those who found it, the rest is burned;
- slash (proven wrong): the part goes back, and the worker's bond compensates the client for the rest of the request,
  which a wrong stage spoils; the rest of the slash is bounty and burn;
- the client never gets back more than the whole price, however many stages fail: the excess is burned, so that buying
  wrong work never pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consensus.runtime.arithmetic import PPM, compute_equal_shares, compute_permille
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import VERIFICATION_POOL, HoldReason, read_account
from consensus.runtime.context import Environment
from consensus.runtime.inference import conduct, deposits, roster, sessions
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_events import WorkerCharged
from consensus.runtime.inference.events import (
    FeeBurned,
    RequestResolved,
    StagePaid,
    StageRefunded,
    VerificationPoolPaid,
    VerifierPaid,
    WorkerEjected,
    WorkerReleased,
    WorkerSlashed,
)
from consensus.runtime.inference.state import DueKind, Request, StageStatus, Worker, WorkerStatus


def pay_stage(
    env: Environment, request_id: bytes, index: int, challenge: bytes | None, verifiers: Sequence[bytes]
) -> None:
    """Pay stage `index`: undrawn (`challenge` None), or passed and verified by `verifiers`."""
    request = read_request(env, request_id)
    stage, params = request.stages[index], inference.params.read(env.state)
    burned = compute_permille(stage.gross, params.burn_permille)
    verification = compute_permille(stage.gross, params.verification_permille)
    amount = stage.gross - burned - verification
    ledger.pay_held(env.state, request.client, HoldReason.ESCROW, stage.operator, amount)
    env.emit(StagePaid(request_id, index, stage.worker, stage.operator, amount, challenge is not None))
    _burn_escrow(env, request_id, index, request.client, burned)
    if challenge is None:
        ledger.pay_held(env.state, request.client, HoldReason.ESCROW, VERIFICATION_POOL, verification)
        env.emit(VerificationPoolPaid(request_id, index, verification))
    else:
        ledger.take_held(env.state, request.client, HoldReason.ESCROW, verification)
        bonus = compute_pool_bonus(verification, stage.challenge_ppm, read_account(env.state, VERIFICATION_POOL).free)
        ledger.debit(env.state, VERIFICATION_POOL, bonus)
        _pay_verifiers(env, challenge, verifiers, verification + bonus)
    worker = _read_worker(env, stage.worker)
    paid = replace(worker, earned=worker.earned + amount)
    if challenge is not None:
        paid = conduct.note_served(env, replace(paid, passes=worker.passes + 1), stage.gross)
    inference.workers.write(env.state, stage.worker, paid)
    _close_stage(env, request_id, request, index, StageStatus.PAID, 0)


def compute_pool_bonus(verification: int, challenge_ppm: int, pool: int) -> int:
    """What the pool adds when a stage drawn with probability p passes: share x (1 / p - 1), at most its balance.

    Undrawn stages pay their share in with probability 1 - p, so the pool neither grows nor shrinks in expectation,
    and a stage that is certain to be drawn (p = 1) takes nothing out.
    """
    return min(pool, verification * (PPM - challenge_ppm) // challenge_ppm)


def refund_stage(env: Environment, request_id: bytes, index: int) -> None:
    """Return stage `index` to the client without anybody's blame: no committee can judge it, or its worker was idle."""
    request = read_request(env, request_id)
    _close_stage(env, request_id, request, index, StageStatus.REFUNDED, _refund(env, request_id, request, index))


def refund_unjudged(env: Environment, request_id: bytes, index: int, *, is_suspect: bool) -> None:
    """Return stage `index`, whose committee found no verdict. A suspect worker is on probation again, no bond is cut.

    Nobody gains by it: the worker has computed for nothing or cheated for nothing, the settler loses its deposit, the
    committee gets nothing, and whoever prevented the verdict by finding nothing has a miss more.
    """
    request = read_request(env, request_id)
    returned = _refund(env, request_id, request, index)
    if is_suspect:
        key = request.stages[index].worker
        inference.workers.write(env.state, key, conduct.note_fault(_read_worker(env, key)))
    _close_stage(env, request_id, request, index, StageStatus.REFUNDED, returned, is_forfeit=True)


def charge_stage(env: Environment, request_id: bytes, index: int, challenge: bytes, finders: Sequence[bytes]) -> None:
    """Stage `index` was drawn and not opened, found by `finders`: refund, charge the bond, eject below the minimum."""
    state, params, request = env.state, inference.params.read(env.state), read_request(env, request_id)
    stage = request.stages[index]
    returned = _refund(env, request_id, request, index)
    worker = _read_worker(env, stage.worker)
    charge = conduct.compute_charge(params, stage.gross, stage.challenge_ppm, worker.bond)
    stands_for = conduct.compute_odds_value(stage.gross, stage.challenge_ppm)
    bounty = min(charge, compute_permille(stands_for, params.unavailable_bounty_permille))
    ledger.take_held(state, worker.operator, HoldReason.WORKER_BOND, charge)
    ledger.shrink_issuance(state, charge - bounty)
    env.emit(WorkerCharged(stage.worker, worker.operator, request_id, index, charge, bounty, charge - bounty))
    _pay_verifiers(env, challenge, finders, bounty)
    cut = conduct.note_unavailable(env, stage.worker, replace(worker, bond=worker.bond - charge))
    inference.workers.write(state, stage.worker, eject_if_poor(env, stage.worker, cut))
    _close_stage(env, request_id, request, index, StageStatus.REFUNDED, returned)


def slash_stage(env: Environment, request_id: bytes, index: int, challenge: bytes, accusers: Sequence[bytes]) -> None:
    """Stage `index` was proven wrong by `accusers`: refund, slash, compensate, reward, eject below the minimum."""
    state = env.state
    request, params = read_request(env, request_id), inference.params.read(state)
    stage = request.stages[index]
    returned = _refund(env, request_id, request, index)
    worker = _read_worker(env, stage.worker)
    slash = compute_permille(worker.bond, params.fail_slash_permille)
    compensation = min(slash, request.price - request.returned - returned)
    bounty = compute_permille(slash - compensation, params.bounty_permille)
    burned = slash - compensation - bounty
    ledger.take_held(state, worker.operator, HoldReason.WORKER_BOND, slash)
    ledger.credit(state, request.client, compensation)
    ledger.shrink_issuance(state, burned)
    env.emit(
        WorkerSlashed(
            worker=stage.worker,
            operator=worker.operator,
            request=request_id,
            stage=index,
            client=request.client,
            amount=slash,
            compensation=compensation,
            bounty=bounty,
            burned=burned,
        )
    )
    _pay_verifiers(env, challenge, accusers, bounty)
    cut = conduct.note_fault(replace(worker, bond=worker.bond - slash, fails=worker.fails + 1))
    inference.workers.write(state, stage.worker, eject_if_poor(env, stage.worker, cut))
    _close_stage(env, request_id, request, index, StageStatus.SLASHED, returned + compensation)


def read_request(env: Environment, request_id: bytes) -> Request:
    """The request; it must exist."""
    request = inference.requests.read(env.state, request_id)
    assert request is not None, "requests are kept until they are resolved"
    return request


def release_worker(env: Environment, worker_key: bytes) -> None:
    """Free the bond of a worker that left, once its release height is reached and it has no unresolved stage."""
    worker = _read_worker(env, worker_key)
    is_leaving = worker.status in (WorkerStatus.RETIRING, WorkerStatus.EJECTED)
    if not is_leaving or worker.open_stages or env.block.height < worker.release_height:
        return
    ledger.release(env.state, worker.operator, HoldReason.WORKER_BOND, worker.bond)
    inference.workers.write(env.state, worker_key, replace(worker, status=WorkerStatus.RELEASED, bond=0))
    inference.workers_by_model.remove(env.state, worker.model, worker_key)
    forget = env.block.height + inference.params.read(env.state).retention_blocks + 1
    inference.due.add(env.state, forget, DueKind.FORGET_WORKER, worker_key)
    env.emit(WorkerReleased(worker_key, worker.operator, worker.bond))


def _refund(env: Environment, request_id: bytes, request: Request, index: int) -> int:
    """Return the stage's gross to the client up to the request's price in all; burn the rest. Returns the nmyl."""
    gross = request.stages[index].gross
    amount = min(gross, request.price - request.returned)
    ledger.release(env.state, request.client, HoldReason.ESCROW, amount)
    env.emit(StageRefunded(request_id, index, request.client, amount))
    _burn_escrow(env, request_id, index, request.client, gross - amount)
    return amount


def _burn_escrow(env: Environment, request_id: bytes, index: int, client: bytes, amount: int) -> None:
    if amount:
        ledger.burn_held(env.state, client, HoldReason.ESCROW, amount)
        env.emit(FeeBurned(request_id, index, amount))


def _pay_verifiers(env: Environment, challenge: bytes, verifiers: Sequence[bytes], total: int) -> None:
    for verifier, amount in zip(verifiers, compute_equal_shares(total, len(verifiers)), strict=True):
        ledger.credit(env.state, verifier, amount)
        env.emit(VerifierPaid(challenge, verifier, amount))


def eject_if_poor(env: Environment, key: bytes, worker: Worker) -> Worker:
    """Eject the worker when its bond is below the minimum, and return it. A releasing bond keeps its release height."""
    params = inference.params.read(env.state)
    if worker.bond >= params.worker_bond_min or worker.status == WorkerStatus.EJECTED:
        return worker
    height = env.block.height + params.worker_unbonding_blocks
    inference.due.add(env.state, height, DueKind.WORKER_RELEASE, key)
    roster.strike(env.state, key)
    env.emit(WorkerEjected(key, worker.operator, worker.bond, height))
    return replace(worker, status=WorkerStatus.EJECTED, release_height=height)


def _close_stage(
    env: Environment,
    request_id: bytes,
    request: Request,
    index: int,
    status: StageStatus,
    returned: int,
    *,
    is_forfeit: bool = False,
) -> None:
    """Record the stage's end in the request, the worker and, with the last stage, the session."""
    state = env.state
    stage = request.stages[index]
    assert stage.status in (StageStatus.AWAITING_DRAW, StageStatus.CHALLENGED), "a stage is closed once"
    stages = (*request.stages[:index], replace(stage, status=status), *request.stages[index + 1 :])
    closed = replace(
        request,
        escrow=request.escrow - stage.gross,
        returned=request.returned + returned,
        open_stages=request.open_stages - 1,
        stages=stages,
    )
    inference.requests.write(state, request_id, closed)
    deposits.close_stage(env, request_id, index, is_forfeit=is_forfeit)
    worker = _read_worker(env, stage.worker)
    freed = replace(worker, unresolved=worker.unresolved - stage.gross, open_stages=worker.open_stages - 1)
    inference.workers.write(state, stage.worker, freed)
    release_worker(env, stage.worker)
    if closed.open_stages == 0:
        assert closed.escrow == 0, "every stage's part has left the hold"
        deposits.close_request(env, request_id)
        env.emit(RequestResolved(request_id, closed.session, closed.price, closed.returned))
        forget = env.block.height + inference.params.read(state).retention_blocks
        inference.due.add(state, forget, DueKind.FORGET_REQUEST, request_id)
        sessions.note_request_resolved(env, closed.session)


def _read_worker(env: Environment, worker_key: bytes) -> Worker:
    worker = inference.workers.read(env.state, worker_key)
    assert worker is not None, "a worker outlives what is open of it"
    return worker
