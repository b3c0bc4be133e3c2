"""Work that falls due at the start of a block, under a budget. A block without any costs one lookup.

Deadlines are kept by height, then kind, then id, and done in that order. What the budget of a block does not cover is
left where it is, and the next block begins there: nothing is lost, nothing overtakes, and an empty block costs no more
than a full one. What comes late waits: a session still takes settlements, a draw uses a later beacon. The first item of
a block is done whatever it weighs, so that there is always an end; the heaviest is bounded by constants (runtime.md).
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.context import Environment
from consensus.runtime.inference import (
    absence,
    audits,
    bias,
    calls,
    contest,
    draws,
    oblivion,
    partial,
    payments,
    sessions,
    verdicts,
)
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.due_weights import (
    LOOK_WEIGHT,
    compute_due_weight,
    compute_units_max,
    count_units,
)
from consensus.runtime.inference.state import DRAW_DELAY_BLOCKS, DueKind
from consensus.runtime.system.state import read_params

_AT_ONCE = 256
"""Entries looked up together."""

_PARTS: dict[DueKind, Callable[[Environment, bytes, int], oblivion.Dropped]] = {
    DueKind.FORGET_SESSION: oblivion.forget_session,
    DueKind.FORGET_WORKER: oblivion.forget_worker,
    DueKind.VERIFIER_EXPIRY: oblivion.expire_verifier,
}
"""Work that can be done in parts: at most so many records at a time."""


def initialize(env: Environment) -> int:
    """Handle what is due at this height and what was left over, in the order of height, kind, id, up to the budget.

    Returns the weight used.
    """
    state, height = env.state, env.block.height
    params = read_params(state)
    left_over = inference.due_from.read(state)
    budget = _DueBudget(params.block_weight_max * params.due_permille // PERMILLE)
    for at in range(left_over or height, height + 1):
        if not _do_height(env, at, budget):
            inference.due_from.write(state, at)
            return budget.used
        budget.used += LOOK_WEIGHT if at < height else 0
    if left_over:
        inference.due_from.write(state, 0)
    return budget.used


class _DueBudget:
    """Weight that one block spends on what is due."""

    def __init__(self, weight_max: int) -> None:
        self.weight_max = weight_max
        self.used = 0
        self._is_begun = False

    @property
    def left(self) -> int:
        return max(self.weight_max - self.used, 0)

    def take(self, weight: int) -> bool:
        """Whether work of that weight may be done now; it is counted then."""
        if self._is_begun and self.used + weight > self.weight_max:
            return False
        self._is_begun = True
        self.used += weight
        return True


def _do_height(env: Environment, at: int, budget: _DueBudget) -> bool:
    """Whether everything due at that height is done."""
    state = env.state
    while entries := inference.due.list_first(state, _AT_ONCE, at):
        for _, number, subject in entries:
            if not inference.due.contains(state, at, number, subject):
                continue  # what came before it ended it
            kind = DueKind(number)
            if kind in _PARTS:
                is_done = _do_part(env, kind, subject, budget)
            else:
                is_done = budget.take(compute_due_weight(kind, count_units(state, kind, subject)))
            if not is_done:
                return False
            inference.due.remove(state, at, number, subject)
            if kind not in _PARTS:
                _do(env, at, kind, subject)
    return True


def _do_part(env: Environment, kind: DueKind, subject: bytes, budget: _DueBudget) -> bool:
    """Do as much as the budget covers; whether that was all."""
    if not budget.take(compute_due_weight(kind, 1)):
        return False
    part = _PARTS[kind](env, subject, 1 + compute_units_max(kind, budget.left))
    budget.used += compute_due_weight(kind, max(part.records, 1)) - compute_due_weight(kind, 1)
    return part.is_all


def _draw(env: Environment, at: int, request_id: bytes) -> None:
    """Draw a request, or wait until enough of the power has contributed to the beacon since it was final."""
    state, height = env.state, env.block.height
    final_height = inference.waiting_draws.read(state, request_id)
    wait = bias.find_wait(state, at - DRAW_DELAY_BLOCKS if final_height is None else final_height, height)
    if wait:
        inference.due.add(state, height + wait, DueKind.DRAW, request_id)
        if final_height is None:
            inference.waiting_draws.write(state, request_id, at - DRAW_DELAY_BLOCKS)
        return
    if final_height is not None:
        inference.waiting_draws.delete(state, request_id)
    draws.draw_request(env, request_id)


def _do(env: Environment, at: int, kind: DueKind, subject: bytes) -> None:
    match kind:
        case DueKind.DRAW:
            _draw(env, at, subject)
        case DueKind.REVEAL:
            verdicts.end_round(env, subject)
        case DueKind.SESSION_CLOSE:
            sessions.close_when_due(env, subject)
        case DueKind.WORKER_RELEASE:
            payments.release_worker(env, subject)
        case DueKind.FORGET_REQUEST:
            oblivion.forget_request(env, subject)
        case DueKind.AUDIT_DRAW:
            audits.draw_audits(env, subject)
        case DueKind.FORGET_AUDIT:
            audits.forget(env, subject)
        case DueKind.ABSENCE_EXPIRY:
            absence.expire_reports(env, subject)
        case DueKind.JOIN_END:
            partial.expire(env, subject)
        case DueKind.CLIENT_BOND_RETURN:
            sessions.return_bond(env, subject)
        case DueKind.POSTPONED_DRAW:
            draws.draw_postponed(env, subject)
        case DueKind.VERIFIER_LEAVE:
            calls.finish_leaving(env, subject)
        case DueKind.ROUND_DRAW:
            if not contest.draw_round(env, subject):
                verdicts.conclude_challenge(env, subject)
        case _:
            raise AssertionError(f"{kind.name} is done in parts")
