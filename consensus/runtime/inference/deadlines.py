"""Work that falls due at the start of a block. Deadlines are kept by height: a block without any costs one lookup."""

from __future__ import annotations

from consensus.runtime.context import Environment
from consensus.runtime.inference import (
    absence,
    audits,
    calls,
    contest,
    draws,
    partial,
    payments,
    sequences,
    sessions,
    verdicts,
)
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.state import DueKind, SessionStatus
from proto_specs.types.verdict import compute_challenge_id


def initialize(env: Environment) -> None:
    """Handle everything due at this height, in the order of kind, then id."""
    height = env.block.height
    for due_height, kind, subject in list(inference.due.iterate(env.state, height)):
        if not inference.due.contains(env.state, due_height, kind, subject):
            continue
        inference.due.remove(env.state, due_height, kind, subject)
        match DueKind(kind):
            case DueKind.DRAW:
                draws.draw_request(env, subject)
            case DueKind.REVEAL:
                verdicts.end_round(env, subject)
            case DueKind.SESSION_CLOSE:
                sessions.finish_session(env, subject)
            case DueKind.WORKER_RELEASE:
                payments.release_worker(env, subject)
            case DueKind.FORGET_REQUEST:
                _forget_request(env, subject)
            case DueKind.FORGET_SESSION:
                _forget_session(env, subject)
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


def _forget_request(env: Environment, request_id: bytes) -> None:
    """Drop a resolved request and its challenges. That its number is used is dropped with the session, never before."""
    state = env.state
    request = payments.read_request(env, request_id)
    for index in range(len(request.stages)):
        draws.drop_challenge(env, compute_challenge_id(request_id, index))
    inference.requests_by_session.delete(state, request.session, request.sequence)
    inference.requests.delete(state, request_id)


def _forget_session(env: Environment, session_id: bytes) -> None:
    """Drop a closed session with its used sequence numbers. Nothing can be settled for an unknown session."""
    state = env.state
    session = inference.sessions.read(state, session_id)
    assert session is not None
    assert session.status == SessionStatus.CLOSED, "only closed sessions are forgotten"
    if session.requests_open:
        later = env.block.height + inference.params.read(state).retention_blocks
        inference.due.add(state, later, DueKind.FORGET_SESSION, session_id)
        return
    sessions.return_bond(env, session_id)
    sequences.forget(state, session_id)
    inference.sessions_by_client.remove(state, session.client, session_id)
    inference.sessions.delete(state, session_id)
