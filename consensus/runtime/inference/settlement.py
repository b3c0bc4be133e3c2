"""Settling a request: the checks that make the commitment binding, then the move of its price (DESIGN 5.3).

After settlement the request's stages wait for the beacon two blocks later, and no party can change anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consensus.runtime.arithmetic import BALANCE_MAX, PERMILLE, PPM
from consensus.runtime.context import Environment
from consensus.runtime.inference import asks, moves, payments, sequences
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
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.order_rules import OrderInvalid, validate_order, validate_positions
from proto_specs.types.calls import Settle
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import (
    Order,
    PathStage,
    SignedStageRoots,
    SignedVoucher,
    compute_billed_price,
    compute_commitment_root,
    compute_request_id,
    compute_windows,
    is_order_signed,
    is_stage_roots_signed,
    is_voucher_signed,
)
from proto_specs.types.statement import Span


def settle(env: Environment, signer: bytes, call: Settle) -> None:
    """Commit a request and move its price out of the session. Raises the errors that the checks below name."""
    order = call.order.order
    request_id = compute_request_id(order)
    numbers = (Span(order.sequence, order.sequence + 1),)
    session = check_session(env, order.genesis, order.session, numbers, 1)
    _check_order(session, read_model(env, session), order)
    workers = check_path(env, session, order.path)
    if all(worker.operator != signer for worker in workers):
        raise NotParty("only an operator of one of the stages settles")
    tokens = call.voucher.voucher.tokens
    if not is_order_signed(call.order, session.session_key):
        raise BadOrderSignature("the session key did not sign this order")
    check_voucher(session, order, request_id, call.voucher)
    check_stage_roots(order, request_id, call.voucher, call.stage_roots)
    positions = call.stage_roots[0].roots.positions
    prices = [compute_billed_price(order, stage, tokens, positions) for stage in order.path]
    slice_size = order.slice_end - order.slice_start
    check_payable(session, order.slice_end, slice_size, sum(prices))
    roots = [signed.roots for signed in call.stage_roots]
    stages = lade_stages(env, order.path, workers, prices, [(one.input_root, one.output_root) for one in roots])
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
        stages=stages,
    )
    draw_height = commit(env, request_id, session, numbers, slice_size, request)
    env.emit(
        RequestSettled(
            request=request_id,
            session=request.session,
            model=request.model,
            client=request.client,
            settler=signer,
            prompt_tokens=order.prompt_tokens,
            tokens=tokens,
            windows=request.windows,
            price=request.price,
            root=request.root,
            draw_height=draw_height,
        )
    )
    refund_idle(env, request_id, workers)


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
    base = PPM if worker.passes < params.probation_passes else params.base_challenge_ppm
    at_stake = params.exposure_factor * (worker.unresolved + gross) * PPM * PERMILLE
    covered = worker.bond * params.detection_permille
    if at_stake > covered * PPM:
        raise ExposureExceeded(f"{worker.unresolved} + {gross} nmyl unresolved against a bond of {worker.bond}")
    return max(base, -(-at_stake // covered) if at_stake else 0)


def check_session(
    env: Environment, genesis: bytes, session_id: bytes, numbers: Sequence[Span], requests: int
) -> Session:
    """The session, which still pays, and in which the `numbers` of so many `requests` are not settled.

    Raises WrongChain, UnknownSession, EscrowReturned, SequenceUsed, TooManyRequests.
    """
    if genesis != env.block.genesis:
        raise WrongChain(f"what was signed is for genesis {genesis.hex()}")
    session = inference.sessions.read(env.state, session_id)
    if session is None:
        raise UnknownSession(f"no session {session_id.hex()}")
    if session.status == SessionStatus.CLOSED:
        raise EscrowReturned("the escrow went back to the client")
    sequences.check_unused(env.state, session_id, numbers)
    if session.requests_settled + requests > session.requests_max:
        left = session.requests_max - session.requests_settled
        raise TooManyRequests(f"the session was for {session.requests_max} requests, {left} are left")
    return session


def read_model(env: Environment, session: Session) -> Model:
    """The session's model."""
    model = inference.models.read(env.state, session.model)
    assert model is not None, "a session's model is registered"
    return model


def _check_order(session: Session, model: Model, order: Order) -> None:
    if order.model != session.model:
        raise WrongModel(f"the session is for model {session.model.hex()}")
    try:
        validate_order(order, model.bounds)
    except OrderInvalid as error:
        raise BadOrder(str(error)) from error


def check_payable(session: Session, slice_end: int, slice_size: int, price: int) -> None:
    """Slices are within the session's positions and cover the price, and the escrow still holds it.

    The escrow covers all orders with disjoint slices (inference_settlement.md). So it falls short only when the client
    has signed slices that overlap, which the chain does not look for. Raises BadSlice, EscrowTooLow.
    """
    if slice_end > session.promisable:
        raise BadSlice(f"the slice ends at {slice_end}, the session's positions at {session.promisable}")
    if price > slice_size:
        raise BadSlice(f"{price} nmyl are due, the slice is of {slice_size}")
    if price > session.escrow:
        raise EscrowTooLow(f"{price} nmyl are due, {session.escrow} are left in the session")


def check_path(env: Environment, session: Session, path: Sequence[PathStage]) -> list[Worker]:
    """A bonded worker of the session's model holds each stage, another one each, at prices that both sides agreed to.

    Raises BadPath, PriceTooHigh, PriceTooLow, WorkerNotActive.
    """
    workers = []
    if len({stage.worker for stage in path}) < len(path):
        raise BadPath("a worker holds two stages")
    for number, stage in enumerate(path):
        worker = inference.workers.read(env.state, stage.worker)
        if worker is None or worker.model != session.model:
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


def lade_stages(
    env: Environment,
    path: Sequence[PathStage],
    workers: Sequence[Worker],
    prices: Sequence[int],
    roots: Sequence[tuple[bytes, bytes]],
) -> tuple[RequestStage, ...]:
    """The stages of a settled request, each at its price; the workers carry them from now on as unresolved.

    `roots` are each stage's of its input and output. Raises ExposureExceeded.
    """
    params, stages = inference.params.read(env.state), []
    for stage, worker, price, (input_root, output_root) in zip(path, workers, prices, roots, strict=True):
        is_paid = is_working(env.state, worker, env.block.height)
        ppm = compute_challenge_ppm(params, worker, price) if is_paid else 0
        laden = replace(worker, unresolved=worker.unresolved + price, open_stages=worker.open_stages + 1)
        inference.workers.write(env.state, stage.worker, laden)
        stages.append(
            RequestStage(
                stage.worker,
                worker.operator,
                stage.start,
                stage.end,
                price,
                ppm,
                StageStatus.AWAITING_DRAW,
                input_root,
                output_root,
            )
        )
    return tuple(stages)


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

    Raises BadStageRoots.
    """
    if len(stage_roots) != len(order.path):
        raise BadStageRoots(f"{len(stage_roots)} roots for {len(order.path)} stages")
    positions = stage_roots[0].roots.positions
    try:
        validate_positions(order, voucher.voucher.tokens, positions, is_final=voucher.voucher.final)
    except OrderInvalid as error:
        raise BadStageRoots(str(error)) from error
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


def commit(
    env: Environment, request_id: bytes, session: Session, numbers: Sequence[Span], slice_size: int, request: Request
) -> int:
    """Store the request, take its price from the session, and schedule the draw. Returns the height of the draw.

    What is left of the slices can be promised again. `released` stops at 64 bits: no order names a position beyond.
    """
    state = env.state
    charged = replace(
        session,
        released=min(session.released + slice_size - request.price, BALANCE_MAX),
        escrow=session.escrow - request.price,
        requests_settled=session.requests_settled + (1 if request.requests is None else request.requests),
        requests_open=session.requests_open + 1,
    )
    inference.sessions.write(state, request.session, charged)
    inference.requests.write(state, request_id, request)
    inference.requests_by_session.write(state, request.session, request.sequence, request_id)
    sequences.mark_used(state, request.session, numbers)
    draw_height = env.block.height + DRAW_DELAY_BLOCKS
    inference.due.add(state, draw_height, DueKind.DRAW, request_id)
    return draw_height


def refund_idle(env: Environment, request_id: bytes, workers: Sequence[Worker]) -> None:
    """Return at once what the stages of workers would get that were idle at the settlement."""
    for index, worker in enumerate(workers):
        if not is_working(env.state, worker, env.block.height):
            payments.refund_stage(env, request_id, index, is_unavailable=False)
