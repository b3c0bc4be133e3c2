"""The beacon's choice: which stages are challenged, in which window, by which committee (DESIGN 5.3, 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consensus.runtime.arithmetic import PPM
from consensus.runtime.context import Environment
from consensus.runtime.inference import benches, bias, payments, seats
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_events import DrawPostponed
from consensus.runtime.inference.committee_state import PostponedDraw
from consensus.runtime.inference.events import ChallengeDrawn, CommitteeEmpty
from consensus.runtime.inference.state import (
    Challenge,
    CommitteeMember,
    DueKind,
    Request,
    RequestStage,
    StageStatus,
)
from consensus.runtime.system.space import read_paused
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import Validator
from proto_specs.types.verdict import compute_challenge_id


def draw_request(env: Environment, request_id: bytes) -> None:
    """Draw every stage of a request with this block's beacon: challenge the stage, or pay it unverified."""
    request = inference.requests.read(env.state, request_id)
    assert request is not None, "the worker that was active at the settlement waits for its draw"
    for index, stage in enumerate(request.stages):
        if stage.status != StageStatus.AWAITING_DRAW:
            continue
        drawn = replace(stage, challenge_ppm=bias.read_drawn_ppm(env.state, stage))
        if request.requests is None:
            windows = range(request.first_window, stage.windows)
            place = compute_draw(env.block.beacon, request_id, index, drawn.challenge_ppm, windows)
        else:
            place = compute_point(env.block.beacon, request_id, index, drawn, request)
        if place is None:
            payments.pay_stage(env, request_id, index, None, ())
            continue
        if drawn != stage:
            _write_stage(env, request_id, index, drawn)
        _seat_stage(env, request_id, index, place, 0)


def draw_postponed(env: Environment, challenge_id: bytes) -> None:
    """Draw the committee of a stage that was drawn when too few verifiers had a free seat."""
    waiting = committees.postponed.read(env.state, challenge_id)
    assert waiting is not None, "a postponed draw is kept until it falls due"
    committees.postponed.delete(env.state, challenge_id)
    _seat_stage(env, waiting.request, waiting.stage, waiting.place, waiting.tries)


def compute_draw(beacon: bytes, request_id: bytes, stage: int, challenge_ppm: int, windows: range) -> int | None:
    """The challenged window, or None. The first 8 bytes of the draw (big-endian) decide, the next 8 choose.

    H = hash(DRAW, beacon || request || stage as one byte); challenged iff u64(H[0:8]) x 10^6 < ppm x 2^64.
    """
    assert windows, "a settled request has positions of its own"
    drawn = _draw(beacon, request_id, stage, challenge_ppm)
    return None if drawn is None else windows[int.from_bytes(drawn[:8], "big") % len(windows)]


def compute_point(beacon: bytes, statement_id: bytes, index: int, stage: RequestStage, request: Request) -> int | None:
    """The challenged point of a statement's stage, or None: a nmyl of its gross, and what that pays for.

    H as in `compute_draw`; nmyl number u128(H[8:24]) mod gross. The first `prompt_gross` pay for the billed prompt
    positions, each the same, the others for the tokens. The remainder favours no nmyl by more than 2^-64 of its chance.
    """
    drawn = _draw(beacon, statement_id, index, stage.challenge_ppm)
    if drawn is None:
        return None
    nmyl = int.from_bytes(drawn, "big") % stage.gross
    return compute_paid(nmyl, stage.gross, stage.prompt_gross, request.prompt_tokens, request.tokens)


def compute_paid(nmyl: int, gross: int, prompt_gross: int, prompt_tokens: int, tokens: int) -> int:
    """The point that nmyl number `nmyl` of a statement's `gross` pays for, 0 <= nmyl < gross."""
    if nmyl < prompt_gross:
        return nmyl * prompt_tokens // prompt_gross
    return prompt_tokens + (nmyl - prompt_gross) * tokens // (gross - prompt_gross)


def _draw(beacon: bytes, request_id: bytes, stage: int, challenge_ppm: int) -> bytes | None:
    """16 bytes to choose a place by, when the stage is challenged."""
    drawn = hash_tagged(Tag.DRAW, beacon + request_id + bytes([stage]))
    return drawn[8:24] if int.from_bytes(drawn[:8], "big") * PPM < challenge_ppm << 64 else None


def compute_committee(beacon: bytes, challenge: bytes, eligible: Sequence[Validator], size: int) -> list[Validator]:
    """Up to `size` validators drawn by stake without replacement.

    Seat i goes to the first validator whose cumulated stake, over those not yet seated and in the order of the set,
    exceeds H(DRAW, beacon || challenge || i) mod the total; the hash is read as a 256-bit big-endian integer.
    """
    left, seated = list(eligible), []
    for seat in range(min(size, len(left))):
        point = int.from_bytes(hash_tagged(Tag.DRAW, beacon + challenge + bytes([seat])), "big")
        point %= sum(member.power for member in left)
        for index, member in enumerate(left):
            if point < member.power:
                seated.append(left.pop(index))
                break
            point -= member.power
    return seated


def open_challenge(
    env: Environment,
    request: bytes,
    stage: int,
    window: int,
    worker: bytes,
    model: bytes,
    eligible: Sequence[Validator],
    point: int | None = None,
) -> tuple[bytes, Challenge]:
    """Seat a committee with this block's beacon and set its deadlines; the challenge's id, and the challenge."""
    state, params, height = env.state, inference.params.read(env.state), env.block.height
    known = inference.models.read(state, model)
    assert known is not None, "a worker's model is registered"
    served = inference.workers.read(state, worker)
    challenge_id = compute_challenge_id(request, stage)
    seated = compute_committee(env.block.beacon, challenge_id, eligible, params.committee_size)
    commit_deadline = height + params.commit_blocks
    challenge = Challenge(
        request=request,
        stage=stage,
        window=window,
        worker=worker,
        model=model,
        beacon=env.block.beacon,
        drawn_height=height,
        commit_deadline=commit_deadline,
        reveal_deadline=commit_deadline + params.reveal_blocks,
        threshold_ppb=known.threshold_ppb if served is None else known.get_threshold(served.end),
        committee=tuple(CommitteeMember(member.operator, member.power) for member in seated),
        committed=0,
        revealed=0,
        outcome=None,
        distance_ppb=0,
        round_starts=(),
        point=point,
        paused=read_paused(state),
    )
    inference.challenges.write(state, challenge_id, challenge)
    for member in challenge.committee:
        seats.take(state, member.verifier, challenge_id)
    inference.due.add(state, challenge.reveal_deadline, DueKind.REVEAL, challenge_id)
    return challenge_id, challenge


def drop_challenge(env: Environment, challenge_id: bytes) -> None:
    """Forget a resolved challenge with its commitments and reveals. An unknown challenge is no error."""
    state = env.state
    challenge = inference.challenges.read(state, challenge_id)
    if challenge is None:
        return
    for member in challenge.committee:
        inference.commitments.delete(state, challenge_id, member.verifier)
        inference.reveals.delete(state, challenge_id, member.verifier)
    committees.round_delays.delete(state, challenge_id)
    inference.challenges.delete(state, challenge_id)


def _seat_stage(env: Environment, request_id: bytes, index: int, place: int, tries: int) -> None:
    """Challenge a drawn stage, or wait for free seats, or refund it where nobody can judge it. It is never paid so."""
    state, request = env.state, payments.read_request(env, request_id)
    parties = benches.list_parties(request.client, [stage.operator for stage in request.stages], index)
    params, registered = inference.params.read(state), benches.list_eligible(state, request.model, set())
    bench = benches.list_bench(params, registered, parties)
    free = seats.keep_free(state, bench)
    if bench and benches.is_enough(params, free, registered):
        _challenge_stage(env, request_id, index, place, free)
    elif bench and tries < params.postpone_max:
        challenge_id, height = compute_challenge_id(request_id, index), env.block.height + params.postpone_blocks
        committees.postponed.write(state, challenge_id, PostponedDraw(request_id, index, place, tries + 1))
        inference.due.add(state, height, DueKind.POSTPONED_DRAW, challenge_id)
        env.emit(DrawPostponed(challenge_id, request_id, index, tries + 1, height))
    else:
        env.emit(CommitteeEmpty(request_id, index, request.stages[index].worker))
        payments.refund_stage(env, request_id, index)


def _challenge_stage(
    env: Environment, request_id: bytes, index: int, place: int, eligible: Sequence[Validator]
) -> None:
    request = payments.read_request(env, request_id)
    stage = request.stages[index]
    window, point = (place, None) if request.requests is None else (0, place)
    challenge_id, challenge = open_challenge(
        env, request_id, index, window, stage.worker, request.model, eligible, point
    )
    _write_stage(env, request_id, index, replace(stage, status=StageStatus.CHALLENGED))
    env.emit(
        ChallengeDrawn(
            challenge=challenge_id,
            request=request_id,
            stage=index,
            worker=stage.worker,
            window=window,
            committee=tuple(member.verifier for member in challenge.committee),
            commit_deadline=challenge.commit_deadline,
            reveal_deadline=challenge.reveal_deadline,
            point=point,
        )
    )


def _write_stage(env: Environment, request_id: bytes, index: int, stage: RequestStage) -> None:
    request = payments.read_request(env, request_id)
    stages = (*request.stages[:index], stage, *request.stages[index + 1 :])
    inference.requests.write(env.state, request_id, replace(request, stages=stages))
