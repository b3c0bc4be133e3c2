"""Any stage settles what it holds, and the others join (DESIGN 5.1). Economics first:

- the last stage of a path could take a whole answer together with the client, by settling nothing. So every stage keeps
  the client's vouchers and its own roots, and settles alone; who brought no roots is not paid;
- a settlement that lacks stages, or whose voucher is not final, is pending for `join_blocks`. What is brought meanwhile
  is added, and nothing is ever taken away: the voucher for most tokens counts, and of each stage the roots over most
  positions. So an old voucher, settled early by a friend of the client, costs nobody anything, nor does a new one: a
  stage that computed less bills what it signed for. A better voucher opens the time for joining anew, since the
  others may bill more by it; each step costs a fee;
- who lies about a boundary shuts nobody out: neighbours whose roots do not meet are drawn for certain, and the liar
  cannot show leaves that its neighbour signed (partial.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consensus.runtime.context import Environment
from consensus.runtime.inference import partial, settlement
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import (
    BadStageRoots,
    BadVoucher,
    EscrowReturned,
    NothingToJoin,
    NotParty,
    WorkerNotActive,
)
from consensus.runtime.inference.partial import Pending
from consensus.runtime.inference.promise_events import SettlementJoined
from consensus.runtime.inference.state import Request, RequestStage, SessionStatus, StageStatus
from proto_specs.order_rules import COMPUTED_AHEAD_MAX
from proto_specs.types.calls import Settle
from proto_specs.types.promise_calls import JoinSettlement
from proto_specs.types.request import (
    Order,
    SignedStageRoots,
    SignedVoucher,
    StageRoots,
    Voucher,
    compute_positions,
    compute_request_id,
    compute_windows,
    is_stage_roots_signed,
)


def settle(env: Environment, signer: bytes, call: Settle) -> None:
    """Commit a request that all stages signed, or replace by it what others settled of it before.

    Raises what `settlement.settle` and `join_settlement` do.
    """
    order = call.order.order
    request_id = compute_request_id(order)
    pending = partial.read_pending(env.state, request_id)
    if pending is None:
        settlement.settle(env, signer, call)
        return
    settlement.check_stage_roots(order, request_id, call.voucher, call.stage_roots)
    _join(env, signer, request_id, pending, order, call.voucher, call.stage_roots)


def join_settlement(env: Environment, signer: bytes, call: JoinSettlement) -> None:
    """Settle what some stages hold, or add it to what is settled of the request.

    Raises BadStageRoots, BadVoucher, NotParty, WorkerNotActive, NothingToJoin, EscrowReturned, BadSlice, EscrowTooLow,
    ExposureExceeded, and for the first that settles what `settlement.check_order` does.
    """
    order = call.order.order
    request_id = compute_request_id(order)
    pending = partial.read_pending(env.state, request_id)
    if pending is not None:
        _join(env, signer, request_id, pending, order, call.voucher, call.stage_roots)
        return
    if inference.requests.read(env.state, request_id) is not None:
        raise NothingToJoin("the settlement is final")
    session, workers = settlement.check_order(env, signer, call.order)
    if call.voucher is None:
        raise BadVoucher("the first to settle brings the client's voucher")
    settlement.check_voucher(session, order, request_id, call.voucher)
    voucher = call.voucher.voucher
    roots = check_part_roots(order, request_id, voucher, call.stage_roots)
    height = env.block.height
    if not any(settlement.is_working(env.state, workers[one.stage], height) for one in roots):
        raise WorkerNotActive("the worker of none of these stages is active")
    settlement.settle_parts(env, signer, session, workers, order, voucher, roots)


def check_part_roots(
    order: Order, request_id: bytes, voucher: Voucher, stage_roots: Sequence[SignedStageRoots]
) -> list[StageRoots]:
    """One or more stages of the path signed roots, each over positions that the voucher allows. Raises BadStageRoots.

    A stage may have signed for less than the voucher is for, and then bills less. It has not computed further ahead of
    the voucher than workers do, as in `settlement.check_stage_roots`; also where the voucher is final, since a client
    may have called final what the stage went on from.
    """
    most = compute_positions(order.prompt_tokens, min(voucher.tokens + COMPUTED_AHEAD_MAX, order.tokens_max))
    stages = [one.roots.stage for one in stage_roots]
    if not stages or stages != sorted(set(stages)) or stages[-1] >= len(order.path):
        raise BadStageRoots(f"roots of stages {stages} of {len(order.path)}, each once and in order is expected")
    for signed in stage_roots:
        roots = signed.roots
        if roots.request != request_id:
            raise BadStageRoots(f"stage {roots.stage}: the roots are of another request")
        if not order.settled_positions < roots.positions <= most:
            expected = f"{order.settled_positions + 1} to {most} expected"
            raise BadStageRoots(f"stage {roots.stage}: {roots.positions} positions computed, {expected}")
        if roots.windows != compute_windows(roots.positions):
            raise BadStageRoots(f"stage {roots.stage}: {roots.windows} windows of {roots.positions} positions")
        if not is_stage_roots_signed(signed, order.path[roots.stage].worker):
            raise BadStageRoots(f"stage {roots.stage}: the worker did not sign its roots")
    return [one.roots for one in stage_roots]


def choose_voucher(request: Request, offered: Voucher | None) -> Voucher | None:
    """The offered voucher if it is better than what was settled: for more tokens, or for as many and final."""
    if offered is None or (offered.tokens, offered.final) <= (request.tokens, request.final):
        return None
    if offered.tokens == request.tokens and offered.tokens_hash != request.tokens_hash:
        return None
    return offered


def _join(
    env: Environment,
    signer: bytes,
    request_id: bytes,
    pending: Pending,
    order: Order,
    signed_voucher: SignedVoucher | None,
    stage_roots: Sequence[SignedStageRoots],
) -> None:
    """Add roots and voucher to a pending request, and take what they cost more out of the session."""
    state = env.state
    request, session = inference.requests.read(state, request_id), inference.sessions.read(state, order.session)
    assert request is not None, "what is pending is settled"
    assert session is not None, "a session outlives its open requests"
    if session.status == SessionStatus.CLOSED:
        raise EscrowReturned("the escrow went back to the client")
    if all(stage.operator != signer for stage in request.stages):
        raise NotParty("only an operator of one of the stages settles")
    better = None
    if signed_voucher is not None:
        settlement.check_voucher(session, order, request_id, signed_voucher)
        better = choose_voucher(request, signed_voucher.voucher)
    voucher = better or Voucher(request_id, request.tokens, request.tokens_hash, request.final)
    roots = check_part_roots(order, request_id, voucher, stage_roots)
    stages = list(request.stages)
    for one in roots:
        stages[one.stage] = _bill(env, order, voucher.tokens, stages[one.stage], one)
    if better is None and tuple(stages) == request.stages:
        raise NothingToJoin("all of this is settled already")
    price = sum(stage.gross for stage in stages)
    settlement.check_payable(session, order.slice_end, pending.slice_size, price, price - request.price)
    disjoint = partial.draw_disjoint(stages)
    joined = replace(
        request,
        tokens=voucher.tokens,
        tokens_hash=voucher.tokens_hash,
        final=voucher.final,
        positions=max(stage.positions for stage in stages),
        windows=max(stage.windows for stage in stages),
        price=price,
        escrow=request.escrow + price - request.price,
        root=partial.compute_root_of(request_id, disjoint),
        open_stages=sum(stage.status == StageStatus.AWAITING_DRAW for stage in stages),
        stages=disjoint,
    )
    inference.requests.write(state, request_id, joined)
    inference.sessions.write(state, order.session, replace(session, escrow=session.escrow - price + request.price))
    _schedule(env, signer, request_id, pending, joined, is_better=better is not None)


def _bill(env: Environment, order: Order, tokens: int, stage: RequestStage, roots: StageRoots) -> RequestStage:
    """The stage under what it brought or what it had, whichever is more. An idle worker's stage stays as it is."""
    worker = inference.workers.read(env.state, stage.worker)
    assert worker is not None, "workers are never deleted"
    is_new = stage.status == StageStatus.MISSING
    is_idle = not settlement.is_working(env.state, worker, env.block.height)
    if is_idle or stage.status not in (StageStatus.MISSING, StageStatus.AWAITING_DRAW):
        return stage
    held = replace(stage, status=StageStatus.AWAITING_DRAW)
    if roots.positions > stage.positions:
        held = replace(held, positions=roots.positions, input_root=roots.input_root, output_root=roots.output_root)
    gross = partial.compute_gross(order, order.path[roots.stage], tokens, held.positions)
    more = gross - stage.gross
    assert more >= 0, "neither tokens nor positions become fewer"
    ppm = settlement.compute_challenge_ppm(inference.params.read(env.state), worker, more)
    laden = replace(worker, unresolved=worker.unresolved + more, open_stages=worker.open_stages + is_new)
    inference.workers.write(env.state, stage.worker, laden)
    return replace(held, gross=gross, challenge_ppm=max(ppm, stage.challenge_ppm))


def _schedule(
    env: Environment, signer: bytes, request_id: bytes, pending: Pending, request: Request, *, is_better: bool
) -> None:
    """Draw what is complete; leave time for others after a better voucher."""
    if partial.is_complete(request):
        draw_height = partial.finish(env, request_id, pending, env.block.height)
    elif is_better:
        draw_height = partial.keep_open(env, request_id, pending.slice_size)
    else:
        draw_height = pending.draw_height
    env.emit(
        SettlementJoined(
            request=request_id,
            settler=signer,
            tokens=request.tokens,
            stages=sum(stage.status != StageStatus.MISSING for stage in request.stages),
            price=request.price,
            root=request.root,
            draw_height=draw_height,
        )
    )
