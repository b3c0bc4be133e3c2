"""Sessions: a client's escrow from its opening, over top-ups, to the return of the rest.

A client cannot escape a bill by closing: settlements are accepted through the notice period, and a settlement moves
its money to the request. `close_height` is public: the expiry at first, or the end of the notice period. It moves when
it comes, by the number of blocks that were too full for a settlement: filling blocks escapes no bill either.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.arithmetic import BALANCE_MAX, compute_permille
from consensus.runtime.balances import ledger
from consensus.runtime.balances.errors import InsufficientBalance, ZeroAmount
from consensus.runtime.balances.state import HoldReason, read_account
from consensus.runtime.context import Environment
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import (
    DepositTooHigh,
    DepositTooLow,
    NoRequests,
    NotClient,
    RequestsBeyondNumbers,
    SessionConvicted,
    SessionNotOpen,
    UnknownModel,
    UnknownSession,
)
from consensus.runtime.inference.events import SessionClosed, SessionClosing, SessionOpened, SessionToppedUp
from consensus.runtime.inference.promise_events import ClientBondReturned
from consensus.runtime.inference.state import DueKind, Session, SessionStatus
from consensus.runtime.system.space import read_paused_settlements
from proto_specs.limits import SESSION_SEQUENCES_MAX
from proto_specs.types.calls import CloseSession, OpenSession, TopUpSession
from proto_specs.types.request import compute_session_id


def open_session(env: Environment, signer: bytes, call: OpenSession) -> None:
    """Escrow a deposit.

    Raises UnknownModel, NoRequests, RequestsBeyondNumbers, DepositTooLow, InsufficientBalance.
    """
    state, params = env.state, inference.params.read(env.state)
    if inference.models.read(state, call.model) is None:
        raise UnknownModel(f"no model {call.model.hex()}")
    if call.requests_max == 0:
        raise NoRequests("a session is for at least one request")
    if call.requests_max > SESSION_SEQUENCES_MAX:
        raise RequestsBeyondNumbers(f"a session is for {SESSION_SEQUENCES_MAX} requests at most")
    if call.deposit < max(params.session_deposit_min, 1):
        raise DepositTooLow(f"a session needs at least {max(params.session_deposit_min, 1)} nmyl")
    number = env.inner_number if env.inner_number is not None else read_account(state, signer).nonce - 1
    session = compute_session_id(signer, number)
    assert inference.sessions.read(state, session) is None, "a number is used once"
    bond = _hold(env, signer, call.deposit)
    expiry = env.block.height + params.session_expiry_blocks
    opened = Session(
        client=signer,
        model=call.model,
        session_key=call.session_key,
        status=SessionStatus.OPEN,
        max_price=call.max_price,
        deposit=call.deposit,
        released=0,
        escrow=call.deposit,
        requests_max=call.requests_max,
        requests_settled=0,
        requests_open=0,
        opened_height=env.block.height,
        close_height=expiry,
        bond=bond,
        is_convicted=False,
        paused_before=read_paused_settlements(state),
    )
    inference.sessions.write(state, session, opened)
    inference.sessions_by_client.add(state, signer, session)
    inference.due.add(state, expiry, DueKind.SESSION_CLOSE, session)
    env.emit(SessionOpened(session, signer, call.model, call.deposit, expiry))


def top_up_session(env: Environment, signer: bytes, call: TopUpSession) -> None:
    """Escrow more, to be promised like the first deposit. A session that closes takes nothing more.

    Raises UnknownSession, NotClient, SessionNotOpen, SessionConvicted, ZeroAmount, DepositTooHigh, InsufficientBalance.
    """
    session = _read_own_open(env, signer, call.session)
    if session.is_convicted:
        raise SessionConvicted("a position of the session was promised twice: open another one")
    if call.amount == 0:
        raise ZeroAmount("a session is topped up by at least 1 nmyl")
    deposit = session.deposit + call.amount
    if deposit > BALANCE_MAX:
        raise DepositTooHigh(f"the session has escrowed {session.deposit} nmyl in all: open another one")
    bond = session.bond + _hold(env, signer, call.amount)
    topped_up = replace(session, deposit=deposit, escrow=session.escrow + call.amount, bond=bond)
    inference.sessions.write(env.state, call.session, topped_up)
    env.emit(SessionToppedUp(call.session, signer, call.amount, deposit))


def close_session(env: Environment, signer: bytes, call: CloseSession) -> None:
    """Give notice. Raises UnknownSession, NotClient, SessionNotOpen."""
    session = _read_own_open(env, signer, call.session)
    notice = env.block.height + inference.params.read(env.state).session_notice_blocks
    height = min(notice, session.close_height)
    inference.due.remove(env.state, session.close_height, DueKind.SESSION_CLOSE, call.session)
    inference.due.add(env.state, height, DueKind.SESSION_CLOSE, call.session)
    closing = replace(session, status=SessionStatus.CLOSING, close_height=height)
    if height == notice:
        closing = replace(closing, paused_before=read_paused_settlements(env.state))
    inference.sessions.write(env.state, call.session, closing)
    env.emit(SessionClosing(call.session, signer, height))


def close_when_due(env: Environment, session_id: bytes) -> None:
    """At `close_height`: finish the session, or move its end by the blocks that had no sure room for a settlement."""
    state = env.state
    session = inference.sessions.read(state, session_id)
    assert session is not None
    paused = read_paused_settlements(state)
    if paused == session.paused_before:
        finish_session(env, session_id)
        return
    height = max(session.close_height + paused - session.paused_before, env.block.height + 1)
    inference.sessions.write(state, session_id, replace(session, close_height=height, paused_before=paused))
    inference.due.add(state, height, DueKind.SESSION_CLOSE, session_id)
    env.emit(SessionClosing(session_id, session.client, height))


def finish_session(env: Environment, session_id: bytes) -> None:
    """Return the unclaimed escrow, at `close_height` or when the last request it was opened for resolves."""
    state = env.state
    session = inference.sessions.read(state, session_id)
    assert session is not None
    assert session.status != SessionStatus.CLOSED, "a session is finished once"
    ledger.release(state, session.client, HoldReason.ESCROW, session.escrow)
    inference.due.remove(state, session.close_height, DueKind.SESSION_CLOSE, session_id)
    closed = replace(session, status=SessionStatus.CLOSED, escrow=0, close_height=env.block.height)
    inference.sessions.write(state, session_id, closed)
    forget = env.block.height + inference.params.read(state).retention_blocks
    inference.due.add(state, forget, DueKind.FORGET_SESSION, session_id)
    if session.bond:
        returned = env.block.height + inference.params.read(state).client_bond_blocks
        inference.due.add(state, returned, DueKind.CLIENT_BOND_RETURN, session_id)
    env.emit(SessionClosed(session_id, session.client, session.escrow))


def return_bond(env: Environment, session_id: bytes) -> None:
    """Return what is left of the bond, when a double promise can no longer be shown or the session is forgotten."""
    session = inference.sessions.read(env.state, session_id)
    if session is None or not session.bond:
        return
    ledger.release(env.state, session.client, HoldReason.CLIENT_BOND, session.bond)
    inference.sessions.write(env.state, session_id, replace(session, bond=0))
    env.emit(ClientBondReturned(session_id, session.client, session.bond))


def note_request_resolved(env: Environment, session_id: bytes) -> None:
    """Count a resolved request. A session that has served every request it was opened for then finishes."""
    session = inference.sessions.read(env.state, session_id)
    assert session is not None, "a session outlives its open requests"
    left = replace(session, requests_open=session.requests_open - 1)
    inference.sessions.write(env.state, session_id, left)
    is_used_up = left.requests_settled == left.requests_max and left.requests_open == 0
    if is_used_up and left.status != SessionStatus.CLOSED:
        finish_session(env, session_id)


def _hold(env: Environment, client: bytes, amount: int) -> int:
    """Escrow an amount and bond the client's share of it. Returns the bond. Raises InsufficientBalance."""
    bond = compute_permille(amount, inference.params.read(env.state).client_bond_permille)
    free = read_account(env.state, client).free
    if free < amount + bond:
        needed = f"{amount + bond} nmyl are needed: {amount} to escrow and a bond of {bond}"
        raise InsufficientBalance(f"{needed}; {free} are free")
    ledger.hold(env.state, client, HoldReason.ESCROW, amount)
    ledger.hold(env.state, client, HoldReason.CLIENT_BOND, bond)
    return bond


def _read_own_open(env: Environment, signer: bytes, session_id: bytes) -> Session:
    session = inference.sessions.read(env.state, session_id)
    if session is None:
        raise UnknownSession(f"no session {session_id.hex()}")
    if session.client != signer:
        raise NotClient("another account opened this session")
    if session.status != SessionStatus.OPEN:
        raise SessionNotOpen(f"the session is {SessionStatus(session.status).name}")
    return session
