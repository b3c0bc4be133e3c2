"""What the module forgets, a bounded part at a time. Nothing here is needed by anything that is still open.

A record that nobody pays for may not stay for ever: whoever registers and leaves, again and again, would grow the state
of every node. Rent would have to be collected from accounts that are empty by then; an expiry needs nobody.

- A released worker, with its score, its former range and the slots it was convicted for, goes `retention_blocks` after
  its release: by then every request and audit that names it has gone. Its key may be registered anew, as a stranger's.
- An operator's jail and conduct end with its last worker's record, if the jail is over; else that stays until it is.
- A verifier's registrations, its standing and its count of silences go when it is no candidate for election any more;
  that is asked every `retention_blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.runtime.context import Environment
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import draws, payments, sequences, sessions
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.state import DueKind, SessionStatus, WorkerStatus
from consensus.runtime.staking import state as staking
from proto_specs.types.verdict import compute_challenge_id


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many records were dropped, and whether nothing is left to do."""

    records: int
    is_all: bool


def add_verifier(env: Environment, model: bytes, operator: bytes) -> None:
    """Register an operator for a model; its first registration sets the deadline at which it may be forgotten."""
    state = env.state
    if not inference.verifier_models.list_first(state, 1, operator):
        _ask_again(env, DueKind.VERIFIER_EXPIRY, operator)
    inference.verifiers.add(state, model, operator)
    inference.verifier_models.add(state, operator, model)


def remove_verifier(env: Environment, model: bytes, operator: bytes) -> None:
    """Undo a registration. The deadline stays, and finds nothing."""
    inference.verifiers.remove(env.state, model, operator)
    inference.verifier_models.remove(env.state, operator, model)


def forget_request(env: Environment, request_id: bytes) -> None:
    """Drop a resolved request and its challenges. That its number is used goes with the session, never before."""
    state = env.state
    request = payments.read_request(env, request_id)
    for index in range(len(request.stages)):
        draws.drop_challenge(env, compute_challenge_id(request_id, index))
    inference.requests_by_session.delete(state, request.session, request.sequence)
    inference.requests.delete(state, request_id)


def forget_session(env: Environment, session_id: bytes, records_max: int) -> Dropped:
    """Drop a closed session with its used sequence numbers, at most `records_max` of them now.

    Nothing can be settled for an unknown session.
    """
    state = env.state
    session = inference.sessions.read(state, session_id)
    assert session is not None
    assert session.status == SessionStatus.CLOSED, "only closed sessions are forgotten"
    if session.requests_open:
        _ask_again(env, DueKind.FORGET_SESSION, session_id)
        return Dropped(0, is_all=True)
    dropped, is_all = sequences.forget(state, session_id, records_max)
    if not is_all:
        return Dropped(dropped, is_all=False)
    sessions.return_bond(env, session_id)
    inference.sessions_by_client.remove(state, session.client, session_id)
    inference.sessions.delete(state, session_id)
    return Dropped(dropped, is_all=True)


def forget_worker(env: Environment, key: bytes, records_max: int) -> Dropped:
    """Drop a released worker and all that is kept of it, at most `records_max` convictions now."""
    state = env.state
    worker = inference.workers.read(state, key)
    if worker is None or worker.status != WorkerStatus.RELEASED:
        return Dropped(0, is_all=True)
    jailed_until = inference.read_jail(state, worker.operator)
    if inference.open_audits.list_first(state, 1, key) or jailed_until > env.block.height:
        _ask_again(env, DueKind.FORGET_WORKER, key)
        return Dropped(0, is_all=True)
    found = inference.equivocations.list_first(state, records_max + 1, key)
    for slot in found[:records_max]:
        inference.equivocations.remove(state, *slot)
    if len(found) > records_max:
        return Dropped(records_max, is_all=False)
    inference.workers.delete(state, key)
    inference.scores.delete(state, key)
    inference.left_ranges.delete(state, key)
    inference.workers_by_operator.remove(state, worker.operator, key)
    if not inference.workers_by_operator.list_first(state, 1, worker.operator):
        inference.jails.delete(state, worker.operator)
        committees.conducts.delete(state, worker.operator)
    return Dropped(len(found), is_all=True)


def expire_verifier(env: Environment, operator: bytes, records_max: int) -> Dropped:
    """Drop the registrations of an operator that is no candidate, at most `records_max` now."""
    state = env.state
    found = inference.verifier_models.list_first(state, records_max + 1, operator)
    if not found:
        return Dropped(0, is_all=True)
    if staking.candidates.read(state, operator) is not None:
        _ask_again(env, DueKind.VERIFIER_EXPIRY, operator)
        return Dropped(0, is_all=True)
    for _, model in found[:records_max]:
        remove_verifier(env, model, operator)
    if len(found) > records_max:
        return Dropped(records_max, is_all=False)
    inference.silences.delete(state, operator)
    committees.standings.delete(state, operator)
    return Dropped(len(found), is_all=True)


def _ask_again(env: Environment, kind: DueKind, subject: bytes) -> None:
    later = env.block.height + inference.params.read(env.state).retention_blocks
    inference.due.add(env.state, later, kind, subject)
