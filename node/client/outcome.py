"""What the chain made of a request, from its state. Pure over a state reader."""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Challenge, Request, StageStatus
from consensus.state.reader import StateReader
from node.client.answer import RequestOutcome, Resolution, StageOutcome
from node.client.statement_files import StatedRequest
from proto_specs.types.calls import Outcome
from proto_specs.types.request import compute_stage_price
from proto_specs.types.verdict import compute_challenge_id


def read_outcome(state: StateReader, request: bytes) -> RequestOutcome | None:
    """A request as the chain has it; None when it has none."""
    found = queries.read_request(state, request)
    if found is None:
        return None
    drawn = [queries.read_challenge(state, compute_challenge_id(request, at)) for at in range(len(found.stages))]
    return make_outcome(request, found, drawn)


def read_stated_outcome(state: StateReader, request: bytes, stated: StatedRequest) -> RequestOutcome | None:
    """A request that settled in a statement: the statement's stages, and this one's share; None: it is not on chain."""
    whole = read_outcome(state, stated.statement)
    if whole is None:
        return None
    shares = [compute_stage_price(stage, stated.leaf.billed_prompt, stated.leaf.tokens) for stage in stated.told.path]
    back = (StageStatus.REFUNDED.name.lower(), StageStatus.SLASHED.name.lower())
    returned = sum(share for share, stage in zip(shares, whole.stages, strict=True) if stage.status in back)
    return replace(whole, request=request, price=sum(shares), returned=returned, statement=stated.statement)


def make_outcome(request: bytes, found: Request, challenges: list[Challenge | None]) -> RequestOutcome:
    """The outcome of a settled request with the challenge of each stage that was drawn."""
    stages = tuple(
        StageOutcome(
            worker=stage.worker,
            start=stage.start,
            end=stage.end,
            status=StageStatus(stage.status).name.lower(),
            is_drawn=one is not None,
            distance_ppb=None if one is None or one.outcome is None else one.distance_ppb,
            threshold_ppb=None if one is None or one.outcome is None else one.threshold_ppb,
        )
        for stage, one in zip(found.stages, challenges, strict=True)
    )
    resolution = _resolve(found, challenges)
    return RequestOutcome(request, resolution, found.settled_height, found.price, found.returned, stages)


def make_absent(request: bytes, is_lost: bool) -> RequestOutcome:
    """The outcome of a request that is not on chain."""
    return RequestOutcome(request, Resolution.LOST if is_lost else Resolution.PENDING, 0, 0, 0, ())


def _resolve(found: Request, challenges: list[Challenge | None]) -> Resolution:
    statuses = {one.status for one in found.stages}
    if statuses & {StageStatus.AWAITING_DRAW, StageStatus.CHALLENGED}:
        return Resolution.SETTLED
    if StageStatus.SLASHED in statuses:
        return Resolution.SLASHED
    if StageStatus.REFUNDED in statuses:
        return Resolution.REFUNDED
    is_verified = all(one is not None and one.outcome == Outcome.PASS for one in challenges)
    return Resolution.VERIFIED if is_verified else Resolution.PAID
