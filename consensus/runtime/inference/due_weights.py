"""What work that falls due weighs: an upper bound that is known before it is done. Knows no call.

Costs are as in `weights_table.py`. Each kind has a part that it always costs and one for each unit of its subject. What
the work finds (a verdict or none, a draw that hits or misses) does not change its weight: so what is carried over to
the next block is fixed before the block's beacon is known, and nobody chooses the beacon of a draw by it.
"""

from __future__ import annotations

from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.state import DueKind
from consensus.runtime.weights import price_cost
from consensus.runtime.weights_table import Cost
from consensus.state.reader import StateReader

_NS = 1_000

COSTS: dict[DueKind, tuple[Cost, Cost]] = {
    DueKind.DRAW: ((60_000, 6, 0, 0, 2), (400_000, 24, 1, 110, 20)),
    DueKind.REVEAL: ((300_000, 30, 1, 110, 30), (200_000, 10, 1, 4, 8)),
    DueKind.ROUND_DRAW: ((400_000, 40, 1, 110, 30), (60_000, 3, 0, 0, 2)),
    DueKind.SESSION_CLOSE: ((80_000, 8, 0, 0, 7), (0, 0, 0, 0, 0)),
    DueKind.WORKER_RELEASE: ((80_000, 8, 0, 0, 7), (0, 0, 0, 0, 0)),
    DueKind.FORGET_REQUEST: ((30_000, 2, 0, 0, 2), (20_000, 2, 0, 0, 1)),
    DueKind.FORGET_SESSION: ((30_000, 4, 1, 1, 4), (3_000, 1, 0, 1, 1)),
    DueKind.AUDIT_DRAW: ((80_000, 6, 0, 0, 2), (500_000, 20, 1, 110, 12)),
    DueKind.FORGET_AUDIT: ((30_000, 3, 0, 0, 4), (20_000, 2, 0, 0, 1)),
    DueKind.ABSENCE_EXPIRY: ((10_000, 1, 1, 1, 1), (5_000, 1, 0, 1, 1)),
    DueKind.JOIN_END: ((100_000, 8, 0, 0, 8), (60_000, 4, 0, 0, 3)),
    DueKind.CLIENT_BOND_RETURN: ((60_000, 6, 0, 0, 5), (0, 0, 0, 0, 0)),
    DueKind.POSTPONED_DRAW: ((500_000, 30, 2, 220, 20), (0, 0, 0, 0, 0)),
    DueKind.VERIFIER_LEAVE: ((20_000, 1, 1, 1, 1), (5_000, 2, 0, 1, 3)),
    DueKind.FORGET_WORKER: ((60_000, 8, 3, 3, 7), (3_000, 1, 0, 1, 1)),
    DueKind.VERIFIER_EXPIRY: ((30_000, 4, 1, 1, 3), (3_000, 1, 0, 1, 2)),
}
"""(once, for each unit): of a draw the stages; of a round, and of what is forgotten of a request, the committee's
seats; of a session, a worker, a verifier or reports, the records dropped."""

UNKNOWN_WEIGHT = 20_000
"""A kind that the table lacks: it can run, and it is not free."""

LOOK_WEIGHT = 20
"""A height at which nothing is due any more, or an entry that has gone."""


def compute_due_weight(kind: DueKind, units: int) -> int:
    """Weight of an item with so many units."""
    if kind not in COSTS:
        return UNKNOWN_WEIGHT
    once, each = COSTS[kind]
    return -(-(price_cost(once) + units * price_cost(each)) // _NS)


def compute_units_max(kind: DueKind, weight: int) -> int:
    """How many further units of an item that is begun fit into a weight."""
    return weight * _NS // price_cost(COSTS[kind][1])


def count_units(state: StateReader, kind: DueKind, subject: bytes) -> int:
    """Units of an item's subject, as they are now; 0 for items that are done in parts."""
    match kind:
        case DueKind.DRAW | DueKind.JOIN_END:
            request = inference.requests.read(state, subject)
            return 0 if request is None else len(request.stages)
        case DueKind.REVEAL | DueKind.ROUND_DRAW | DueKind.FORGET_AUDIT:
            challenge = inference.challenges.read(state, subject)
            return 0 if challenge is None else len(challenge.committee)
        case DueKind.FORGET_REQUEST:
            request = inference.requests.read(state, subject)
            params = inference.params.read(state)
            seats = params.committee_size + params.contest_committee_size
            return 0 if request is None else len(request.stages) * (1 + 2 * seats)
        case DueKind.AUDIT_DRAW:
            return inference.params.read(state).audits_per_epoch
        case DueKind.ABSENCE_EXPIRY:
            return sum(1 for _ in inference.absence_reports.iterate(state, subject))
        case DueKind.VERIFIER_LEAVE:
            return sum(1 for _ in committees.leaving_verifiers.iterate(state, subject))
        case _:
            return 0
