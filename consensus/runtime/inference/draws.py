"""The beacon's choice: which stages are challenged, in which window, by which committee (DESIGN 5.3, 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consensus.runtime.arithmetic import PPM
from consensus.runtime.context import Environment
from consensus.runtime.inference import bias, payments
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import ChallengeDrawn, CommitteeEmpty
from consensus.runtime.inference.state import Challenge, CommitteeMember, DueKind, StageStatus
from consensus.runtime.staking.state import read_validators
from consensus.state.reader import StateReader
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import Validator
from proto_specs.types.verdict import compute_challenge_id


def draw_request(env: Environment, request_id: bytes) -> None:
    """Draw every stage of a request with this block's beacon: challenge the stage, or pay it unverified."""
    request = inference.requests.read(env.state, request_id)
    assert request is not None, "the worker that was active at the settlement waits for its draw"
    eligible: list[Validator] | None = None
    parties = {request.client, *(stage.operator for stage in request.stages)}
    for index, stage in enumerate(request.stages):
        if stage.status != StageStatus.AWAITING_DRAW:
            continue
        places = range(request.first_window, request.windows) if request.requests is None else range(request.positions)
        challenge_ppm = bias.read_drawn_ppm(env.state, stage)
        place = compute_draw(env.block.beacon, request_id, index, challenge_ppm, places)
        if place is None:
            payments.pay_stage(env, request_id, index, None, ())
            continue
        if eligible is None:
            eligible = list_eligible(env.state, request.model, parties)
        if not eligible:
            env.emit(CommitteeEmpty(request_id, index, stage.worker))
            payments.refund_stage(env, request_id, index, is_unavailable=False)
            continue
        _challenge_stage(env, request_id, index, place, challenge_ppm, eligible)


def compute_draw(beacon: bytes, request_id: bytes, stage: int, challenge_ppm: int, places: range) -> int | None:
    """The challenged one of `places`, or None. The first 8 bytes of the draw (big-endian) decide, the next 8 choose.

    H = hash(DRAW, beacon || request || stage as one byte); challenged iff u64(H[0:8]) x 10^6 < ppm x 2^64. Places are
    a request's own windows, or a statement's positions. These are fewer than 2^34, so that the remainder favours none
    of them by more than 2^-30 of its chance.
    """
    assert places, "a settled request has positions of its own"
    drawn = hash_tagged(Tag.DRAW, beacon + request_id + bytes([stage]))
    if int.from_bytes(drawn[:8], "big") * PPM >= challenge_ppm << 64:
        return None
    return places[int.from_bytes(drawn[8:16], "big") % len(places)]


def list_eligible(state: StateReader, model: bytes, parties: set[bytes]) -> list[Validator]:
    """Elected validators who verify the model and have no part in the request, in the order of the set."""
    verifiers = {operator for _, operator in inference.verifiers.iterate(state, model)}
    return [
        member
        for member in read_validators(state).members
        if member.operator in verifiers and member.operator not in parties
    ]


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
    )
    inference.challenges.write(state, challenge_id, challenge)
    for member in challenge.committee:
        inference.open_challenges.add(state, member.verifier, challenge_id)
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
    inference.challenges.delete(state, challenge_id)


def _challenge_stage(
    env: Environment, request_id: bytes, index: int, place: int, challenge_ppm: int, eligible: Sequence[Validator]
) -> None:
    request = payments.read_request(env, request_id)
    stage = request.stages[index]
    window, point = (place, None) if request.requests is None else (0, place)
    challenge_id, challenge = open_challenge(
        env, request_id, index, window, stage.worker, request.model, eligible, point
    )
    challenged = replace(stage, status=StageStatus.CHALLENGED, challenge_ppm=challenge_ppm)
    stages = (*request.stages[:index], challenged, *request.stages[index + 1 :])
    inference.requests.write(env.state, request_id, replace(request, stages=stages))
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
