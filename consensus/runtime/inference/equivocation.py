"""Two signed leaves for one slot convict without recomputation (DESIGN 5.2). Economics first:

- a reporter gets at most a tenth of the slash, the rest is burned: a worker that reports itself, directly or through
  an accomplice, loses nine tenths of what it moves out of its bond this way;
- a slot convicts once, and only while a bond exists, including one of a retiring or ejected worker.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.arithmetic import compute_permille
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.inference import conduct, payments
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import AlreadyReported, NoBond, NoEquivocation, UnknownWorker
from consensus.runtime.inference.events import WorkerEquivocated
from proto_specs.types.calls import ReportEquivocation
from proto_specs.types.request import is_input_signed, is_output_signed

BOUNTY_PERMILLE_MAX = 100
"""The most of an equivocation's slash that a reporter gets, whatever `bounty_permille` is."""


def report_equivocation(env: Environment, signer: bytes, call: ReportEquivocation) -> None:
    """Slash a worker for two leaves of one slot. Raises UnknownWorker, NoBond, AlreadyReported, NoEquivocation."""
    state, first, second = env.state, call.first, call.second
    worker = inference.workers.read(state, call.worker)
    if worker is None:
        raise UnknownWorker(f"no worker {call.worker.hex()}")
    if not worker.bond:
        raise NoBond("nothing of the worker's bond is left")
    slot = (call.worker, first.request, first.boundary, first.window, int(call.is_output))
    if inference.equivocations.contains(state, *slot):
        raise AlreadyReported("a slot convicts once")
    if (second.request, second.boundary, second.window) != (first.request, first.boundary, first.window):
        raise NoEquivocation("the leaves are of two slots")
    if first == second:
        raise NoEquivocation("the leaves are the same")
    is_signed = is_output_signed if call.is_output else is_input_signed
    if not (
        is_signed(first, call.worker, call.first_signature) and is_signed(second, call.worker, call.second_signature)
    ):
        raise NoEquivocation("the worker did not sign both leaves in this role")
    inference.equivocations.add(state, *slot)
    params = inference.params.read(state)
    slash = compute_permille(worker.bond, params.equivocation_slash_permille)
    bounty = compute_permille(slash, min(params.bounty_permille, BOUNTY_PERMILLE_MAX))
    ledger.take_held(state, worker.operator, HoldReason.WORKER_BOND, slash)
    ledger.credit(state, signer, bounty)
    ledger.shrink_issuance(state, slash - bounty)
    env.emit(
        WorkerEquivocated(
            worker=call.worker,
            operator=worker.operator,
            request=first.request,
            boundary=first.boundary,
            window=first.window,
            is_output=call.is_output,
            reporter=signer,
            amount=slash,
            bounty=bounty,
            burned=slash - bounty,
        )
    )
    cut = conduct.note_fault(replace(worker, bond=worker.bond - slash))
    inference.workers.write(state, call.worker, payments.eject_if_poor(env, call.worker, cut))
