"""A worker moves to other layers of its model, under the same key and bond.

Economics first. Bond, earnings, passes and audit score are the operator's, so they come along; nothing that the old
range still answers for may be left behind:

- no move while a stage is unresolved or an audit is open: a challenge judges the layers that were computed, and an
  audit the layers that the worker holds, so who cannot answer does not get out of it by moving;
- requests that ran over the old range still settle for `session_notice_blocks`, which the chain takes to be enough for
  any that is under way: else a worker could spoil the pay of the whole path by moving before the settlement;
- as long as the old range settles there is no other move: one former range is all that is ever remembered, and a worker
  that wanders pays a fee each time and earns nothing meanwhile;
- with a former range a key could hold two stages of one path, which is refused: each stage's exposure is counted alone.

What a move cannot hurt: the draw of an audit is by the worker's number, which stays; its weight is that of the range
which then has to be computed.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.context import Environment
from consensus.runtime.inference import absence
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import AuditOpen, BadRange, MovedLately, StagesUnresolved
from consensus.runtime.inference.move_events import WorkerMoved
from consensus.runtime.inference.state import LeftRange, Worker, WorkerStatus
from consensus.state.reader import StateReader
from proto_specs.types.calls import MoveWorker


def move_worker(env: Environment, signer: bytes, call: MoveWorker) -> None:
    """Hold layers [start, end) of the same model from now on. One that is absent, as while it reloads, stays so.

    Raises BadRange, StagesUnresolved, AuditOpen, MovedLately, and as `read_own_worker`.
    """
    state, key = env.state, call.worker_key
    worker = absence.read_own_worker(env, signer, key, WorkerStatus.ACTIVE, WorkerStatus.ABSENT)
    model = inference.models.read(state, worker.model)
    assert model is not None, "a worker's model is registered"
    if not call.start < call.end <= model.layers or (call.start, call.end) == (worker.start, worker.end):
        raise BadRange(f"[{call.start}, {call.end}) is not another range of {model.layers} layers")
    if worker.open_stages or worker.unresolved:
        raise StagesUnresolved(f"{worker.open_stages} stages are not resolved")
    if next(inference.open_audits.iterate(state, key), None) is not None:
        raise AuditOpen("the worker is being audited")
    left = inference.left_ranges.read(state, key)
    if left is not None and env.block.height < left.until:
        raise MovedLately(f"the range left last settles until block {left.until}")
    until = env.block.height + inference.params.read(state).session_notice_blocks
    inference.left_ranges.write(state, key, LeftRange(worker.start, worker.end, until))
    inference.workers.write(state, key, replace(worker, start=call.start, end=call.end))
    env.emit(WorkerMoved(key, signer, call.start, call.end, until))


def is_held(state: StateReader, height: int, key: bytes, worker: Worker, start: int, end: int) -> bool:
    """Whether a request over layers [start, end) of the worker settles now: its range, or the one it left lately."""
    if (worker.start, worker.end) == (start, end):
        return True
    left = inference.left_ranges.read(state, key)
    return left is not None and (left.start, left.end) == (start, end) and height < left.until
