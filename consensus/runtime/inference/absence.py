"""Workers that are not there: reported by a quorum of verifiers, or by themselves. Economics first:

- nothing is slashed and the bond stays bound: being away is no fault that a client paid for, and what a worker settles
  while it is absent is drawn, paid or refunded as ever, for it may have served before it was marked;
- verifiers who mark a rival need more than two thirds of the stake of the model's eligible elected verifiers, and each
  pays a fee a report. The rival answers with one `update_worker`: its fee is all that the lie costs it;
- a worker that comes and goes pays a fee each time it comes, and is in no draw of audits meanwhile;
- an operator does not vote on its own worker, neither way: else a third of the stake could keep a dead one listed.

A verifier has one report about a worker, the last one counts. Reports are deleted when the status changes, or when they
are `absence_blocks` old.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.context import Environment
from consensus.runtime.inference import benches, roster
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.absence_events import WorkerAbsent, WorkerReported, WorkerReturned
from consensus.runtime.inference.errors import NotEligible, NotOperator, UnknownWorker, WorkerNotActive
from consensus.runtime.inference.state import DueKind, Worker, WorkerStatus
from consensus.state.reader import StateReader
from consensus.state.storage import StateWriter
from proto_specs.types.calls import LeaveWorker, ReportAbsent


def report_absent(env: Environment, signer: bytes, call: ReportAbsent) -> None:
    """Say that a worker does not answer; the report that makes the quorum marks it absent.

    Raises UnknownWorker, WorkerNotActive, NotEligible.
    """
    state, key, height = env.state, call.worker_key, env.block.height
    worker = inference.workers.read(state, key)
    if worker is None:
        raise UnknownWorker(f"no worker {key.hex()}")
    if worker.status != WorkerStatus.ACTIVE:
        raise WorkerNotActive(f"the worker is {WorkerStatus(worker.status).name}")
    eligible = benches.list_eligible(state, worker.model, {worker.operator})
    powers = {member.operator: member.power for member in eligible}
    if signer not in powers:
        raise NotEligible("only an elected verifier of its model, and not its operator, reports a worker")
    blocks = inference.params.read(state).absence_blocks
    inference.absence_reports.write(state, key, signer, height + blocks)
    inference.due.add(state, height + blocks, DueKind.ABSENCE_EXPIRY, key)
    reporters = list_reporters(state, key, height)
    reported, total = sum(powers.get(one, 0) for one in reporters), sum(powers.values())
    env.emit(WorkerReported(key, signer, reported, total))
    if is_quorum(reported, total):
        _mark_absent(env, key, worker)


def leave_worker(env: Environment, signer: bytes, call: LeaveWorker) -> None:
    """An operator says that its worker goes: no path names it from now on. Raises as `read_own_worker`."""
    _mark_absent(env, call.worker_key, read_own_worker(env, signer, call.worker_key, WorkerStatus.ACTIVE))


def readmit(env: Environment, worker_key: bytes, worker: Worker) -> Worker:
    """The worker, active again if it was absent, and then on the roster. Writes no worker."""
    if worker.status != WorkerStatus.ABSENT:
        return worker
    roster.enlist(env.state, worker_key)
    env.emit(WorkerReturned(worker_key, worker.operator))
    return replace(worker, status=WorkerStatus.ACTIVE, active_since=env.block.height)


def read_own_worker(env: Environment, signer: bytes, worker_key: bytes, *allowed: WorkerStatus) -> Worker:
    """A worker of the signer's with one of these statuses. Raises UnknownWorker, NotOperator, WorkerNotActive."""
    worker = inference.workers.read(env.state, worker_key)
    if worker is None:
        raise UnknownWorker(f"no worker {worker_key.hex()}")
    if worker.operator != signer:
        raise NotOperator("another account operates this worker")
    if worker.status not in allowed:
        raise WorkerNotActive(f"the worker is {WorkerStatus(worker.status).name}")
    return worker


def is_quorum(reported: int, total: int) -> bool:
    """Whether so much stake of so much marks a worker: more than two thirds."""
    return 3 * reported > 2 * total


def list_reporters(state: StateReader, worker_key: bytes, height: int) -> list[bytes]:
    """Verifiers whose last report about the worker still counts at a height."""
    return [key[1] for key, until in inference.absence_reports.iterate(state, worker_key) if until > height]


def expire_reports(env: Environment, worker_key: bytes) -> None:
    """Delete the reports that count no more. Whatever a vote changes meanwhile, each has a deadline of its own."""
    for key, until in list(inference.absence_reports.iterate(env.state, worker_key)):
        if until <= env.block.height:
            inference.absence_reports.delete(env.state, *key)


def forget_reports(state: StateWriter, worker_key: bytes) -> None:
    """The worker's status changes: whatever was reported is settled."""
    for key, _ in list(inference.absence_reports.iterate(state, worker_key)):
        inference.absence_reports.delete(state, *key)


def _mark_absent(env: Environment, worker_key: bytes, worker: Worker) -> None:
    inference.workers.write(env.state, worker_key, replace(worker, status=WorkerStatus.ABSENT))
    roster.strike(env.state, worker_key)
    forget_reports(env.state, worker_key)
    env.emit(WorkerAbsent(worker_key, worker.operator))
