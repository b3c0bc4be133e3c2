"""Two promises of one position or of one sequence number convict the client that signed both. Economics first:

- a worker takes an order on its word that the order's slice is promised to nobody else. The client answers for that
  with `client_bond_permille` of all it escrows: the whole bond is gone by one conviction;
- a reporter gets at most a tenth; up to `client_compensation_permille` go to the workers of the order that found no
  escrow, if the client vouched for tokens of it; the rest is burned. A client that reports itself, with friends for
  workers, loses what is burned;
- a session is convicted once. Its settlements go on, and what they release goes back as ever; workers take no more of
  its orders.

No order is an exception: a continuation has a sequence number and a slice of its own (inference_settlement.md).
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.arithmetic import compute_permille
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.inference import settlement
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.equivocation import BOUNTY_PERMILLE_MAX
from consensus.runtime.inference.errors import (
    AlreadyConvicted,
    BadOrderSignature,
    EvidenceTooLate,
    NoDoublePromise,
    UnknownSession,
    WrongChain,
)
from consensus.runtime.inference.promise_events import ClientConvicted
from consensus.runtime.inference.state import Session, SessionStatus
from proto_specs.codec import encode
from proto_specs.ed25519 import is_signature_valid
from proto_specs.hashing import Tag
from proto_specs.promises import is_conflict, is_in_statement, make_leaf_promise, make_promise
from proto_specs.types.promise_calls import PromisedByStatement, ReportDoublePromise
from proto_specs.types.request import (
    Order,
    SignedVoucher,
    compute_billed_price,
    compute_positions,
    compute_request_id,
    is_order_signed,
)
from proto_specs.types.statement import compute_statement_id
from proto_specs.types.sum_tree import SumNode, count_before


def report_double_promise(env: Environment, signer: bytes, call: ReportDoublePromise) -> None:
    """Slash the client's bond and mark its session.

    Raises UnknownSession, WrongChain, AlreadyConvicted, EvidenceTooLate, BadOrderSignature, NoDoublePromise and
    BadVoucher.
    """
    state, order = env.state, call.order.order
    session = inference.sessions.read(state, order.session)
    if session is None:
        raise UnknownSession(f"no session {order.session.hex()}")
    if order.genesis != env.block.genesis:
        raise WrongChain(f"the order is for genesis {order.genesis.hex()}")
    if session.is_convicted:
        raise AlreadyConvicted("a session is convicted once")
    if session.status == SessionStatus.CLOSED and not session.bond:
        raise EvidenceTooLate("the bond went back to the client")
    if not is_order_signed(call.order, session.session_key):
        raise BadOrderSignature("the session key did not sign this order")
    request, other = compute_request_id(order), _find_other(session, order, call)
    params = inference.params.read(state)
    bounty = compute_permille(session.bond, min(params.bounty_permille, BOUNTY_PERMILLE_MAX))
    ledger.take_held(state, session.client, HoldReason.CLIENT_BOND, session.bond)
    ledger.credit(state, signer, bounty)
    most = min(compute_permille(session.bond, params.client_compensation_permille), session.bond - bounty)
    compensation = 0
    if call.voucher is not None:
        settlement.check_voucher(session, order, request, call.voucher)
        compensation = _compensate(env, request, order, call.voucher, most)
    burned = session.bond - bounty - compensation
    ledger.shrink_issuance(state, burned)
    inference.sessions.write(state, order.session, replace(session, bond=0, is_convicted=True))
    env.emit(
        ClientConvicted(
            session=order.session,
            client=session.client,
            reporter=signer,
            request=request,
            other=other,
            amount=session.bond,
            bounty=bounty,
            compensation=compensation,
            burned=burned,
        )
    )


def _find_other(session: Session, order: Order, call: ReportDoublePromise) -> bytes:
    """The id of what contradicts the order, signed by the session key for the same session. Raises NoDoublePromise."""
    own = make_promise(order)
    if isinstance(call.other, PromisedByStatement):
        statement, place = call.other.statement, call.other.place
        scope = (statement.genesis, statement.session)
        data = encode(statement)
        is_signed = is_signature_valid(
            session.session_key, Tag.STATEMENT_CLIENT_SIGN, data, call.other.client_signature
        )
        if place is None:
            other, is_double = compute_statement_id(statement), is_in_statement(order, statement)
        else:
            root = SumNode(statement.root, statement.prompt_tokens, statement.tokens)
            is_there = count_before(place, statement.requests, root) is not None
            other, is_double = place.leaf.request, is_there and is_conflict(own, make_leaf_promise(place.leaf))
    else:
        signed = call.other.order
        scope = (signed.order.genesis, signed.order.session)
        is_signed = is_order_signed(signed, session.session_key)
        promise = make_promise(signed.order)
        other, is_double = promise.request, is_conflict(own, promise)
    if scope != (order.genesis, order.session):
        raise NoDoublePromise("the promises are of two sessions")
    if not is_signed:
        raise NoDoublePromise("the session key did not sign the other promise")
    if not is_double:
        raise NoDoublePromise("the two are one, or share neither a sequence number nor a position")
    return other


def _compensate(env: Environment, request_id: bytes, order: Order, voucher: SignedVoucher, most: int) -> int:
    """Pay the operators of an order that is not settled what was vouched for, in all at most `most`. Returns the nmyl.

    Each gets in proportion to what its stage would have billed; what remains of the division is not paid.
    """
    if inference.requests.read(env.state, request_id) is not None:
        return 0
    tokens = voucher.voucher.tokens
    positions = compute_positions(order.prompt_tokens, tokens)
    prices = [compute_billed_price(order, stage, tokens, positions) for stage in order.path]
    owed = sum(prices)
    paid = 0
    for stage, price in zip(order.path, prices, strict=True):
        worker = inference.workers.read(env.state, stage.worker)
        if worker is not None and owed:
            amount = min(owed, most) * price // owed
            ledger.credit(env.state, worker.operator, amount)
            paid += amount
    return paid
