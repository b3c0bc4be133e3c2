"""What withholding costs a worker and its operator (DESIGN 5.6). Economics first:

- a stage that was drawn and not opened costs gross / p of the bond, p being the probability it was drawn with. So every
  withheld stage costs its whole gross in expectation, drawn or not: with burn b and verification share v an honest
  stage brings gross x (1 - b - v) less its computing, a withheld one gross x (1 - b - v) x (1 - p) - gross, which is
  less than nothing. Computing costs less than what is paid for it, so no share of withheld stages pays;
- the bond is enough for that: exposure (settlement.py) keeps unresolved gross / p below a third of it;
- the client has its gross back and gains nothing more, so ordering what will not be opened earns nothing;
- `unavailable_min` is for requests so small that they would not pay for the waiting of a committee;
- the worker is on probation again, drawn always, until it was paid `probation_value` for verified stages: cheap
  requests to oneself do not end it, and dear ones burn their share;
- jails are of the operator, for all its workers. Each is twice as long as the one before, up to a bound. Strikes and
  terms go by value served, too.

What this cannot see: the same person behind another account. There it is another bond, on probation.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.arithmetic import BALANCE_MAX, PPM
from consensus.runtime.context import Environment
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_state import CLEAN, WithheldRecord
from consensus.runtime.inference.events import WorkerJailed
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import Worker


def compute_charge(params: InferenceParams, gross: int, challenge_ppm: int, bond: int) -> int:
    """nmyl that a stage costs which was drawn with this probability and not opened: ceil(gross / p) or the minimum."""
    return min(bond, max(params.unavailable_min, compute_odds_value(gross, challenge_ppm)))


def compute_odds_value(gross: int, challenge_ppm: int) -> int:
    """ceil(gross / p): what a stage stands for that is drawn with probability p."""
    return -(-gross * PPM // max(challenge_ppm, 1))


def is_on_probation(params: InferenceParams, worker: Worker) -> bool:
    """Whether the worker is drawn always."""
    return worker.proven < params.probation_value


def note_fault(worker: Worker) -> Worker:
    """The worker, on probation again."""
    return replace(worker, proven=0)


def note_served(env: Environment, worker: Worker, gross: int) -> Worker:
    """The worker after a stage that was verified and paid; its operator's strikes and terms go by the value."""
    before = committees.conducts.read(env.state, worker.operator)
    if before is not None:
        after = compute_cleared(before, gross, inference.params.read(env.state).probation_value)
        if after == CLEAN:
            committees.conducts.delete(env.state, worker.operator)
        else:
            committees.conducts.write(env.state, worker.operator, after)
    return replace(worker, proven=min(worker.proven + gross, BALANCE_MAX))


def compute_cleared(conduct: WithheldRecord, gross: int, value: int) -> WithheldRecord:
    """What is left of a record after so much was served: each `value` takes the strikes away, or else one term."""
    strikes, terms, served = conduct.strikes, conduct.terms, conduct.served + gross
    while served >= value and (strikes or terms):
        served -= value
        if strikes:
            strikes = 0
        else:
            terms -= 1
    return WithheldRecord(strikes, terms, min(served, BALANCE_MAX)) if strikes or terms else CLEAN


def note_unavailable(env: Environment, key: bytes, worker: Worker) -> Worker:
    """The worker after a withheld stage. Its operator's `unavailable_max`th strike (0: never) is a jail."""
    params, height = inference.params.read(env.state), env.block.height
    noted = replace(note_fault(worker), unavailable=worker.unavailable + 1)
    conduct = committees.read_conduct(env.state, worker.operator)
    strikes = min(conduct.strikes + 1, 0xFFFF)
    if not params.unavailable_max or strikes < params.unavailable_max:
        committees.conducts.write(env.state, worker.operator, replace(conduct, strikes=strikes))
        return noted
    term = params.worker_jail_blocks << min(conduct.terms, params.jail_doublings_max)
    until = max(height + term, inference.read_jail(env.state, worker.operator))
    terms = min(conduct.terms + 1, params.jail_doublings_max)
    if terms:
        committees.conducts.write(env.state, worker.operator, WithheldRecord(0, terms, 0))
    else:
        committees.conducts.delete(env.state, worker.operator)
    inference.jails.write(env.state, worker.operator, until)
    env.emit(WorkerJailed(key, worker.operator, until))
    return replace(noted, jailed_until=until)
