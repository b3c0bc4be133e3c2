"""Settling a request: the checks that make the commitment binding, then the move of its price (DESIGN 5.3).

After settlement the request's stages wait for the beacon two blocks later, and no party can change anything. One that
ended early waits for others to join it first (joins.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consensus.runtime.arithmetic import BALANCE_MAX, PERMILLE, PPM
from consensus.runtime.context import Environment
from consensus.runtime.inference import asks, benches, conduct, deposits, moves, partial, payments, sequences
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
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.partial import StagePart
from consensus.runtime.inference.state import (
    DRAW_DELAY_BLOCKS,
    DueKind,
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
    SignedOrder,
    SignedStageRoots,
    SignedVoucher,
    StageRoots,
    Voucher,
    compute_request_id,
    compute_windows,
    is_order_signed,
    is_stage_roots_signed,
    is_voucher_signed,
)
from proto_specs.types.statement import Span


def settle(env: Environment, signer: bytes, call: Settle) -> None:
    """Commit a request that all stages signed. Raises the errors that the checks below name."""
    order = call.order.order
    request_id = compute_request_id(order)
    session, workers = check_order(env, signer, call.order)
    check_voucher(session, order, request_id, call.voucher)
    check_stage_roots(order, request_id, call.voucher, call.stage_roots)
    settle_parts(env, signer, session, workers, order, call.voucher.voucher, [one.roots for one in call.stage_roots])


def check_order(env: Environment, signer: bytes, signed: SignedOrder) -> tuple[Session, list[Worker]]:
    """The session and the workers of an order that can be settled, by this signer."""
    order, numbers = signed.order, list_numbers(signed.order)
    session = check_session(env, order.genesis, order.session, numbers, 1)
    _check_order(session, read_model(env, session), order)
    workers = check_path(env, session, order.path)
    if all(worker.operator != signer for worker in workers):
        raise NotParty("only an operator of one of the stages settles")
    if not is_order_signed(signed, session.session_key):
        raise BadOrderSignature("the session key did not sign this order")
    return session, workers


def list_numbers(order: Order) -> tuple[Span]:
    """The sequence number of an order."""
    return (Span(order.sequence, order.sequence + 1),)


def settle_parts(
    env: Environment,
    signer: bytes,
    session: Session,
    workers: Sequence[Worker],
    order: Order,
    voucher: Voucher,
    roots: Sequence[StageRoots],
) -> None:
    """Move the price of all stages whose roots these are, in path order, out of the session. All else is checked."""
    request_id = compute_request_id(order)
    parts: list[StagePart | None] = [None] * len(order.path)
    for one in roots:
        parts[one.stage] = partial.make_part(order, voucher.tokens, one)
    price = sum(part.gross for part in parts if part is not None)
    slice_size = order.slice_end - order.slice_start
    check_payable(session, order.slice_end, slice_size, price)
    stages = partial.draw_disjoint(lade_stages(env, order.path, workers, parts))
    positions = max(one.positions for one in roots)
    request = Request(
        session=order.session,
        sequence=order.sequence,
        client=session.client,
        model=session.model,
        settled_height=env.block.height,
        prompt_tokens=order.prompt_tokens,
        tokens=voucher.tokens,
        tokens_hash=voucher.tokens_hash,
        final=voucher.final,
        positions=positions,
        windows=compute_windows(positions),
        first_window=order.settled_positions // WINDOW_POSITIONS,
        continues=None if order.continuation is None else order.continuation.request,
        price=price,
        escrow=price,
        returned=0,
        root=partial.compute_root_of(request_id, stages),
        open_stages=len(roots),
        stages=stages,
    )
    draw_height = commit(env, signer, request_id, session, list_numbers(order), slice_size, request)
    env.emit(
        RequestSettled(
            request=request_id,
            session=request.session,
            model=request.model,
            client=request.client,
            settler=signer,
            prompt_tokens=order.prompt_tokens,
            tokens=voucher.tokens,
            windows=request.windows,
            price=request.price,
            root=request.root,
            draw_height=draw_height,
        )
    )
    refund_idle(env, request_id, stages, workers)


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


def check_payable(session: Session, slice_end: int, slice_size: int, price: int, due: int | None = None) -> None:
    """Slices are within the session's positions and cover the price, and the escrow still holds it.

    The escrow covers all orders with disjoint slices (inference_settlement.md). So it falls short only when the client
    has signed slices that overlap, for which whoever shows both orders has it convicted (doubles.py). `due` is what is
    not taken of the price yet, by default all of it. Raises BadSlice, EscrowTooLow.
    """
    if slice_end > session.promisable:
        raise BadSlice(f"the slice ends at {slice_end}, the session's positions at {session.promisable}")
    if price > slice_size:
        raise BadSlice(f"{price} nmyl are due, the slice is of {slice_size}")
    due = price if due is None else due
    if due > session.escrow:
        raise EscrowTooLow(f"{due} nmyl are due, {session.escrow} are left in the session")


def check_path(env: Environment, session: Session, path: Sequence[PathStage]) -> list[Worker]:
    """A bonded worker of the session's model holds each stage, another one each, at prices that both sides agreed to.

    Raises BadPath, PriceTooHigh, PriceTooLow, WorkerNotActive, and CommitteeTooSmall where too few could judge a stage.
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
    benches.check_committees(env, session.model, session.client, [worker.operator for worker in workers])
    return workers


def lade_stages(
    env: Environment,
    path: Sequence[PathStage],
    workers: Sequence[Worker],
    parts: Sequence[StagePart | None],
) -> tuple[RequestStage, ...]:
    """The stages of a settled request, each at its price; the workers carry them from now on as unresolved.

    A stage without a part is missing, and its worker carries nothing. Raises ExposureExceeded.
    """
    params, stages = inference.params.read(env.state), []
    for stage, worker, brought in zip(path, workers, parts, strict=True):
        part = brought or StagePart(0, 0, ZERO_HASH, ZERO_HASH)
        ppm = 0
        if brought is not None:
            if is_working(env.state, worker, env.block.height):
                ppm = compute_challenge_ppm(params, worker, part.gross)
            laden = replace(worker, unresolved=worker.unresolved + part.gross, open_stages=worker.open_stages + 1)
            inference.workers.write(env.state, stage.worker, laden)
        stages.append(
            RequestStage(
                stage.worker,
                worker.operator,
                stage.start,
                stage.end,
                part.gross,
                ppm,
                StageStatus.MISSING if brought is None else StageStatus.AWAITING_DRAW,
                part.input_root,
                part.output_root,
                part.positions,
                part.prompt_gross,
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
    env: Environment,
    settler: bytes,
    request_id: bytes,
    session: Session,
    numbers: Sequence[Span],
    slice_size: int,
    request: Request,
) -> int:
    """Store the request, take its price from the session and the settler's deposit, schedule the draw: its height.

    What is left of the slices can be promised again, when nothing can be joined any more. `released` stops at 64 bits:
    no order names a position beyond.
    """
    state = env.state
    is_final = request.requests is not None or partial.is_complete(request)
    left = slice_size - request.price if is_final else 0
    charged = replace(
        session,
        released=min(session.released + left, BALANCE_MAX),
        escrow=session.escrow - request.price,
        requests_settled=session.requests_settled + (1 if request.requests is None else request.requests),
        requests_open=session.requests_open + 1,
    )
    inference.sessions.write(state, request.session, charged)
    inference.requests.write(state, request_id, request)
    deposits.hold(env, settler, request_id, len(request.stages))
    inference.requests_by_session.write(state, request.session, request.sequence, request_id)
    sequences.mark_used(state, request.session, numbers)
    if not is_final:
        return partial.keep_open(env, request_id, slice_size)
    draw_height = env.block.height + DRAW_DELAY_BLOCKS
    inference.due.add(state, draw_height, DueKind.DRAW, request_id)
    return draw_height


def refund_idle(env: Environment, request_id: bytes, stages: Sequence[RequestStage], workers: Sequence[Worker]) -> None:
    """Return at once what the stages of workers would get that were idle at the settlement."""
    for index, (stage, worker) in enumerate(zip(stages, workers, strict=True)):
        if stage.status != StageStatus.MISSING and not is_working(env.state, worker, env.block.height):
            payments.refund_stage(env, request_id, index)
