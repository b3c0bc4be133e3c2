"""Settling a request: the checks that make the commitment binding, then the move of its price (DESIGN 5.3).

After settlement the request's stages wait for the beacon two blocks later, and no party can change anything.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.arithmetic import BALANCE_MAX, PERMILLE, PPM
from consensus.runtime.context import Environment
from consensus.runtime.inference import asks, conduct, deposits, draws, moves, payments
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import (
    BadOrder,
    BadOrderSignature,
    BadPath,
    BadSlice,
    BadStageRoots,
    BadVoucher,
    EscrowReturned,
    EscrowTooLow,
    ExposureExceeded,
    NotParty,
    PriceTooHigh,
    PriceTooLow,
    SequenceUsed,
    TooManyRequests,
    UnknownSession,
    WorkerNotActive,
    WrongChain,
    WrongModel,
)
from consensus.runtime.inference.events import RequestSettled
from consensus.runtime.inference.state import (
    DRAW_DELAY_BLOCKS,
    DueKind,
    InferenceParams,
    Model,
    Request,
    RequestStage,
    Session,
    SessionStatus,
    StageStatus,
    Worker,
    WorkerStatus,
)
from consensus.state.reader import StateReader
from proto_specs.limits import UNVOUCHED_TOKENS_MAX, WINDOW_POSITIONS
from proto_specs.order_rules import OrderInvalid, validate_order
from proto_specs.types.calls import Settle
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import (
    Order,
    SignedStageRoots,
    SignedVoucher,
    compute_billed_price,
    compute_commitment_root,
    compute_positions,
    compute_request_id,
    compute_windows,
    is_order_signed,
    is_stage_roots_signed,
    is_voucher_signed,
)

COMPUTED_AHEAD_MAX = UNVOUCHED_TOKENS_MAX + 1
"""Tokens an honest worker may be ahead of the last voucher: those it sends unvouched, and one that it holds back."""


def settle(env: Environment, signer: bytes, call: Settle) -> None:
    """Commit a request and move its price out of the session. Raises the errors that the checks below name."""
    state, order = env.state, call.order.order
    request_id = compute_request_id(order)
    session = _check_session(env, order)
    model = inference.models.read(state, session.model)
    assert model is not None, "a session's model is registered"
    _check_order(session, model, order)
    workers = _check_path(env, session, order)
    draws.check_committees(env, session.model, session.client, [worker.operator for worker in workers])
    if all(worker.operator != signer for worker in workers):
        raise NotParty("only an operator of one of the stages settles")
    tokens = call.voucher.voucher.tokens
    if not is_order_signed(call.order, session.session_key):
        raise BadOrderSignature("the session key did not sign this order")
    check_voucher(session, order, request_id, call.voucher)
    check_stage_roots(order, request_id, call.voucher, call.stage_roots)
    positions = call.stage_roots[0].roots.positions
    prices = [compute_billed_price(order, stage, tokens, positions) for stage in order.path]
    _check_payable(session, order, sum(prices))

    params = inference.params.read(state)
    height = env.block.height
    stages: list[RequestStage] = []
    idle: list[int] = []
    for stage, worker, price, signed in zip(order.path, workers, prices, call.stage_roots, strict=True):
        if is_working(state, worker, height):
            ppm = compute_challenge_ppm(params, worker, price)
        else:
            ppm = 0
            idle.append(len(stages))
        laden = replace(worker, unresolved=worker.unresolved + price, open_stages=worker.open_stages + 1)
        inference.workers.write(state, stage.worker, laden)
        stages.append(
            RequestStage(
                stage.worker,
                worker.operator,
                stage.start,
                stage.end,
                price,
                ppm,
                StageStatus.AWAITING_DRAW,
                signed.roots.input_root,
                signed.roots.output_root,
            )
        )
    roots = [signed.roots for signed in call.stage_roots]
    request = Request(
        session=order.session,
        sequence=order.sequence,
        client=session.client,
        model=session.model,
        settled_height=env.block.height,
        prompt_tokens=order.prompt_tokens,
        tokens=tokens,
        tokens_hash=call.voucher.voucher.tokens_hash,
        final=call.voucher.voucher.final,
        positions=roots[0].positions,
        windows=roots[0].windows,
        first_window=order.settled_positions // WINDOW_POSITIONS,
        continues=None if order.continuation is None else order.continuation.request,
        price=sum(prices),
        escrow=sum(prices),
        returned=0,
        root=compute_commitment_root(roots),
        open_stages=len(stages),
        stages=tuple(stages),
    )
    _commit(env, signer, request_id, session, order.slice_end - order.slice_start, request)
    for index in idle:
        payments.refund_stage(env, request_id, index)


def is_working(state: StateReader, worker: Worker, height: int) -> bool:
    """Whether the worker is paid for requests settled now: its bond is active and its operator is not in jail.

    One that is absent by now may have served before; its bond answers as ever.
    """
    is_bonded = worker.status in (WorkerStatus.ACTIVE, WorkerStatus.RETIRING, WorkerStatus.ABSENT)
    return is_bonded and inference.read_jail(state, worker.operator) <= height


def compute_challenge_ppm(params: InferenceParams, worker: Worker, gross: int) -> int:
    """Probability in ppm that this stage is drawn, so that `S >= 3 R / (p d)` holds with it (DESIGN 5.3).

    S: the worker's bond; R: its unresolved gross with this stage; d: `detection_permille`; 3: `exposure_factor`.
    Raises ExposureExceeded when not even certainty is enough.
    """
    base = PPM if conduct.is_on_probation(params, worker) else params.base_challenge_ppm
    at_stake = params.exposure_factor * (worker.unresolved + gross) * PPM * PERMILLE
    covered = worker.bond * params.detection_permille
    if at_stake > covered * PPM:
        raise ExposureExceeded(f"{worker.unresolved} + {gross} nmyl unresolved against a bond of {worker.bond}")
    return max(base, -(-at_stake // covered) if at_stake else 0)


def _check_session(env: Environment, order: Order) -> Session:
    """Requires an order for this chain and for a session that still pays."""
    if order.genesis != env.block.genesis:
        raise WrongChain(f"the order is for genesis {order.genesis.hex()}")
    session = inference.sessions.read(env.state, order.session)
    if session is None:
        raise UnknownSession(f"no session {order.session.hex()}")
    if session.status == SessionStatus.CLOSED:
        raise EscrowReturned("the escrow went back to the client")
    if inference.requests_by_session.read(env.state, order.session, order.sequence) is not None:
        raise SequenceUsed(f"request {order.sequence} of this session is settled")
    if session.requests_settled >= session.requests_max:
        raise TooManyRequests(f"the session was for {session.requests_max} requests")
    return session


def _check_order(session: Session, model: Model, order: Order) -> None:
    if order.model != session.model:
        raise WrongModel(f"the session is for model {session.model.hex()}")
    try:
        validate_order(order, model.bounds)
    except OrderInvalid as error:
        raise BadOrder(str(error)) from error


def _check_payable(session: Session, order: Order, price: int) -> None:
    """The order's slice is within the session's positions and covers the price, and the escrow still holds it.

    The escrow covers all orders with disjoint slices (inference_settlement.md). So it falls short only when the client
    has signed slices that overlap, which the chain does not look for.
    """
    if order.slice_end > session.promisable:
        raise BadSlice(f"the slice ends at {order.slice_end}, the session's positions at {session.promisable}")
    if price > order.slice_end - order.slice_start:
        raise BadSlice(f"{price} nmyl are due, the slice is of {order.slice_end - order.slice_start}")
    if price > session.escrow:
        raise EscrowTooLow(f"{price} nmyl are due, {session.escrow} are left in the session")


def _check_path(env: Environment, session: Session, order: Order) -> list[Worker]:
    """A bonded worker holds each stage, another one each, at a price that both sides agreed to."""
    workers = []
    if len({stage.worker for stage in order.path}) < len(order.path):
        raise BadPath("a worker holds two stages")
    for number, stage in enumerate(order.path):
        worker = inference.workers.read(env.state, stage.worker)
        if worker is None or worker.model != order.model:
            raise BadPath(f"stage {number}: the worker does not serve this model")
        if not moves.is_held(env.state, env.block.height, stage.worker, worker, stage.start, stage.end):
            raise BadPath(f"stage {number}: the worker does not hold [{stage.start}, {stage.end})")
        if max(stage.prefill_price, stage.decode_price) > session.max_price:
            raise PriceTooHigh(f"stage {number} is above the session's {session.max_price} nmyl")
        prefill, decode = asks.get_floor(worker, env.block.height)
        if stage.prefill_price < prefill or stage.decode_price < decode:
            raise PriceTooLow(f"stage {number} is below the worker's ask")
        workers.append(worker)
    if not any(is_working(env.state, worker, env.block.height) for worker in workers):
        raise WorkerNotActive("no stage's worker is active")
    return workers


def check_voucher(session: Session, order: Order, request_id: bytes, signed: SignedVoucher) -> None:
    """The session's key vouched for tokens of this request, for no more than were ordered. Raises BadVoucher."""
    voucher = signed.voucher
    if voucher.request != request_id:
        raise BadVoucher("the voucher is for another request")
    if voucher.tokens > order.tokens_max:
        raise BadVoucher(f"{voucher.tokens} tokens were vouched for, {order.tokens_max} were ordered")
    if voucher.tokens == 0 and voucher.tokens_hash != ZERO_HASH:
        raise BadVoucher("no tokens hash to zero")
    if not is_voucher_signed(signed, session.session_key):
        raise BadVoucher("the session key did not sign this voucher")


def check_stage_roots(
    order: Order, request_id: bytes, voucher: SignedVoucher, stage_roots: tuple[SignedStageRoots, ...]
) -> None:
    """Every stage signed for the same positions, its output is the next one's input, and all billed work exists.

    A request that ran to its end has exactly the positions of its tokens. In an aborted one workers may have computed
    more than the client vouched for, by as many tokens as workers go without a voucher; the voucher decides the bill.
    This bound keeps a worker from settling an old voucher for work that was vouched for later. One that ended within
    its prompt has whole windows of it, and bills no more. Positions that the order before settled are not enough.
    """
    if len(stage_roots) != len(order.path):
        raise BadStageRoots(f"{len(stage_roots)} roots for {len(order.path)} stages")
    positions = stage_roots[0].roots.positions
    billed = compute_positions(order.prompt_tokens, voucher.voucher.tokens)
    most = billed
    if not voucher.voucher.final:
        ahead = min(voucher.voucher.tokens + COMPUTED_AHEAD_MAX, order.tokens_max)
        most = compute_positions(order.prompt_tokens, ahead)
    is_prompt = voucher.voucher.tokens == 0 and positions % WINDOW_POSITIONS == 0
    least = order.settled_positions + 1 if is_prompt else max(billed, order.settled_positions + 1)
    if not least <= positions <= most:
        raise BadStageRoots(f"{positions} positions computed, {least} to {most} expected")
    previous: bytes | None = None
    for number, (stage, signed) in enumerate(zip(order.path, stage_roots, strict=True)):
        roots = signed.roots
        if (roots.request, roots.stage) != (request_id, number):
            raise BadStageRoots(f"stage {number}: the roots are of another stage or request")
        if (roots.positions, roots.windows) != (positions, compute_windows(positions)):
            raise BadStageRoots(f"stage {number}: {roots.windows} windows of {roots.positions} positions")
        if previous is not None and roots.input_root != previous:
            raise BadStageRoots(f"stage {number} did not get what stage {number - 1} sent")
        if not is_stage_roots_signed(signed, stage.worker):
            raise BadStageRoots(f"stage {number}: the worker did not sign its roots")
        previous = roots.output_root


def _commit(
    env: Environment, signer: bytes, request_id: bytes, session: Session, slice_size: int, request: Request
) -> None:
    """Store the request, take its price from the session, and schedule the draw.

    What is left of the slice can be promised again. `released` stops at 64 bits: no order names a position beyond them.
    """
    state = env.state
    charged = replace(
        session,
        released=min(session.released + slice_size - request.price, BALANCE_MAX),
        escrow=session.escrow - request.price,
        requests_settled=session.requests_settled + 1,
        requests_open=session.requests_open + 1,
    )
    inference.sessions.write(state, request.session, charged)
    inference.requests.write(state, request_id, request)
    deposits.hold(env, signer, request_id, len(request.stages))
    inference.requests_by_session.write(state, request.session, request.sequence, request_id)
    draw_height = env.block.height + DRAW_DELAY_BLOCKS
    inference.due.add(state, draw_height, DueKind.DRAW, request_id)
    env.emit(
        RequestSettled(
            request=request_id,
            session=request.session,
            model=request.model,
            client=request.client,
            settler=signer,
            prompt_tokens=request.prompt_tokens,
            tokens=request.tokens,
            windows=request.windows,
            price=request.price,
            root=request.root,
            draw_height=draw_height,
        )
    )
