"""A settled request until it is all resolved, as the chain tells it: draws, verdicts, payment.

Reports events as they happen; everything is read from the chain, nothing remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Challenge, Request, RequestStage, StageStatus
from node.client.errors import InferenceRefused
from node.client.rpc_chain import RpcChain
from proto_specs.types.verdict import compute_challenge_id

POLL_S = 0.2
SETTLE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class SettlementSeen:
    """The request's commitment is on chain."""

    request: bytes
    found: Request


@dataclass(frozen=True, slots=True)
class StageDrawn:
    """The beacon drew a window of a stage."""

    stage: int
    challenge: Challenge


@dataclass(frozen=True, slots=True)
class StageResolved:
    """A stage is paid, refunded or slashed; `challenge` is None when it was not drawn."""

    stage: int
    status: StageStatus
    found: RequestStage
    challenge: Challenge | None


@dataclass(frozen=True, slots=True)
class RequestDone:
    """Every stage of the request is resolved."""

    request: bytes
    found: Request
    height: int


Happening = SettlementSeen | StageDrawn | StageResolved | RequestDone
Report = Callable[[Happening], None]


async def follow_request(chain: RpcChain, request: bytes, report: Report) -> RequestDone:
    """What the chain says of a request until it is all resolved. Raises InferenceRefused if it does not come."""
    found = await _wait_settled(chain, request)
    if found is None:
        raise InferenceRefused(
            f"nobody settled request 0x{request.hex()} in {SETTLE_TIMEOUT_S:.0f} s: until then nothing is paid"
        )
    report(SettlementSeen(request, found))
    drawn: set[int] = set()
    resolved: set[int] = set()
    while True:
        for number, stage in enumerate(found.stages):
            if number in resolved or stage.status == StageStatus.AWAITING_DRAW:
                continue
            challenge = await chain.read(queries.read_challenge, compute_challenge_id(request, number))
            if challenge is not None and number not in drawn:
                drawn.add(number)
                report(StageDrawn(number, challenge))
            if stage.status != StageStatus.CHALLENGED:
                resolved.add(number)
                report(StageResolved(number, StageStatus(stage.status), stage, challenge))
        if len(resolved) == len(found.stages):
            done = RequestDone(request, found, await chain.get_height())
            report(done)
            return done
        await trio.sleep(POLL_S)
        again = await chain.get_request(request)
        if again is None:
            raise InferenceRefused(f"the chain no longer keeps request {request.hex()}: ask an archive node")
        found = again


async def follow_requests(chain: RpcChain, requests: Iterable[bytes], report: Report) -> list[RequestDone]:
    """One after the other, all of an answer's; as `follow_request`."""
    return [await follow_request(chain, one, report) for one in requests]


async def _wait_settled(chain: RpcChain, request: bytes) -> Request | None:
    give_up_s = trio.current_time() + SETTLE_TIMEOUT_S
    while trio.current_time() < give_up_s:
        found = await chain.get_request(request)
        if found is not None:
            return found
        await trio.sleep(POLL_S)
    return None
