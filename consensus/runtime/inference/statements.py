"""Settling a statement: many requests of a session for the signatures of one (DESIGN 5.1). Economics first:

- client and every stage's worker signed the totals. So nobody can be billed, or be paid, by a statement it refused, and
  what the chain cannot see, the requests behind the sums, each of them has compared with what it signed before;
- who does not sign leaves the others the settlement of each request by itself. Whichever comes first uses the
  sequence numbers up;
- one draw per stage stands for all its requests: its probability is by the exposure over the stage's total, and the
  drawn point is a prompt position or a token of some request in proportion to what each costs at this stage. So who
  cheats on a share of its pay is found with just that share of the probability, whatever it picks.

The chain's work is that of one request's settlement, and a bit per sequence number.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.runtime.context import Environment
from consensus.runtime.inference import settlement
from consensus.runtime.inference.errors import BadPath, BadStatement, BadStatementSignature
from consensus.runtime.inference.partial import StagePart
from consensus.runtime.inference.state import Model, Request
from consensus.runtime.inference.statement_events import StatementSettled
from proto_specs.limits import SESSION_SEQUENCES_MAX, STATEMENT_REQUESTS_MAX, UNVOUCHED_TOKENS_MAX
from proto_specs.order_rules import OrderInvalid, validate_path
from proto_specs.types.calls import SettleStatement
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import compute_stage_price
from proto_specs.types.statement import Span, Statement, compute_statement_id, is_statement_signed


def settle_statement(env: Environment, signer: bytes, call: SettleStatement) -> None:
    """Commit a statement and move its price out of the session. Anybody may: all whom it concerns have signed.

    Raises BadStatement, BadStatementSignature, and the errors of the checks that every settlement makes.
    """
    signed, statement = call.statement, call.statement.statement
    check_totals(statement)
    session = settlement.check_session(
        env, statement.genesis, statement.session, statement.sequences, statement.requests
    )
    _check_bounds(statement, settlement.read_model(env, session))
    workers = settlement.check_path(env, session, statement.path)
    if not is_statement_signed(signed, session.session_key):
        raise BadStatementSignature("the session key and the worker of each stage have to sign the statement")
    prices = [compute_stage_price(stage, statement.prompt_tokens, statement.tokens) for stage in statement.path]
    slice_size = compute_size(statement.slices)
    settlement.check_payable(session, statement.slices[-1].end, slice_size, sum(prices))
    prompts = [compute_stage_price(stage, statement.prompt_tokens, 0) for stage in statement.path]
    parts = [
        StagePart(price, statement.positions, ZERO_HASH, ZERO_HASH, prompt)
        for price, prompt in zip(prices, prompts, strict=True)
    ]
    stages = settlement.lade_stages(env, statement.path, workers, parts)
    request = Request(
        session=statement.session,
        sequence=statement.sequences[0].start,
        client=session.client,
        model=session.model,
        settled_height=env.block.height,
        prompt_tokens=statement.prompt_tokens,
        tokens=statement.tokens,
        tokens_hash=ZERO_HASH,
        final=True,
        positions=statement.positions,
        windows=0,
        first_window=0,
        continues=None,
        price=sum(prices),
        escrow=sum(prices),
        returned=0,
        root=statement.root,
        open_stages=len(stages),
        stages=stages,
        requests=statement.requests,
    )
    statement_id = compute_statement_id(statement)
    draw_height = settlement.commit(env, signer, statement_id, session, statement.sequences, slice_size, request)
    env.emit(
        StatementSettled(
            request=statement_id,
            session=request.session,
            model=request.model,
            client=request.client,
            settler=signer,
            requests=statement.requests,
            prompt_tokens=statement.prompt_tokens,
            tokens=statement.tokens,
            positions=statement.positions,
            price=request.price,
            root=request.root,
            draw_height=draw_height,
        )
    )
    settlement.refund_idle(env, statement_id, stages, workers)


def compute_size(spans: Sequence[Span]) -> int:
    """How many numbers the spans hold."""
    return sum(one.end - one.start for one in spans)


def check_totals(statement: Statement) -> None:
    """The numbers fit each other, as sums over requests that each could be settled by itself do. Raises BadStatement.

    A request bills a prompt position at least, has a position for each token but the last, and no more positions than
    workers compute ahead of the client's vouchers.
    """
    requests, positions = statement.requests, statement.positions
    if not 1 <= requests <= STATEMENT_REQUESTS_MAX:
        raise BadStatement(f"a statement is of 1 to {STATEMENT_REQUESTS_MAX} requests, not {requests}")
    _check_spans("sequence numbers", statement.sequences)
    _check_spans("slices", statement.slices)
    if statement.sequences[-1].end > SESSION_SEQUENCES_MAX:
        raise BadStatement(f"a session has the numbers 0 to {SESSION_SEQUENCES_MAX - 1}")
    numbers = compute_size(statement.sequences)
    if numbers != requests:
        raise BadStatement(f"{numbers} sequence numbers for {requests} requests")
    if not requests <= statement.prompt_tokens <= positions:
        raise BadStatement(f"{statement.prompt_tokens} prompt tokens, {requests} to {positions} expected")
    work = statement.prompt_tokens + statement.tokens
    if not work - requests <= positions <= work + requests * UNVOUCHED_TOKENS_MAX:
        raise BadStatement(f"{positions} positions for {work} tokens of prompts and answers")


def _check_bounds(statement: Statement, model: Model) -> None:
    try:
        validate_path(statement.path, model.layers)
    except OrderInvalid as error:
        raise BadPath(str(error)) from error
    most = statement.requests * model.bounds.positions_max
    if statement.positions > most:
        raise BadStatement(f"{statement.positions} positions, {statement.requests} requests have {most} at most")


def _check_spans(kind: str, spans: Sequence[Span]) -> None:
    """There is one form of a set of numbers: ascending spans that are not empty, with gaps between them."""
    if not spans:
        raise BadStatement(f"no {kind}")
    before = -1
    for span in spans:
        if not before < span.start < span.end:
            raise BadStatement(f"the {kind} are not ascending spans with gaps between them")
        before = span.end
