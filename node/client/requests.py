"""One paid, verified request from end to end: escrow, tokens, settlement, draw, verdicts, payment. The client's story.

`run_inference` reports events as they happen. After the answer it reports only what it reads from the chain.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Challenge, Request, RequestStage, StageStatus
from inference.routing import LayerOffer, choose_path
from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, TokenReceived
from node.client.account import SigningAccount
from node.client.chain_view import WorkerEntry
from node.client.errors import CallFailed, InferenceRefused, RequestLost
from node.client.rpc_chain import RpcChain
from node.client.transport import StagePeer, StageUnreachable, open_request
from node.p2p.host import P2PHost
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import CloseSession, OpenSession
from proto_specs.types.manifest import TOKEN_BYTES, Manifest, ServiceClass
from proto_specs.types.request import (
    Order,
    PathStage,
    compute_prompt_hash,
    compute_request_id,
    compute_stage_price,
    sign_order,
)
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.verdict import compute_challenge_id
from proto_specs.types.wire import FailureCode, FinishReason

POLL_S = 0.2
SETTLE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """The client's wish: a prompt for a model, at most at this price per layer and token."""

    model: bytes
    prompt: tuple[int, ...]
    tokens_max: int
    sampling: SamplingParams
    max_price: int


@dataclass(frozen=True, slots=True)
class PathChosen:
    """The chosen workers, in order of the path."""

    stages: tuple[WorkerEntry, ...]


@dataclass(frozen=True, slots=True)
class EscrowOpened:
    """The session is on chain."""

    session: bytes
    deposit: int
    extrinsic: bytes
    height: int


@dataclass(frozen=True, slots=True)
class Generated:
    """A token, `seconds` after the prompt was sent."""

    token: int
    finish: FinishReason
    seconds: float


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


Happening = PathChosen | EscrowOpened | Generated | SettlementSeen | StageDrawn | StageResolved | RequestDone
Report = Callable[[Happening], None]


async def run_inference(account: SigningAccount, host: P2PHost, ask: Ask, report: Report) -> RequestDone:
    """Ask once, in a session of its own. Raises InferenceRefused, NoPathError, CallFailed, RpcError, RequestLost."""
    chain = account.chain
    manifest = await chain.get_manifest(ask.model)
    if manifest is None:
        raise InferenceRefused(f"model {ask.model.hex()} is not registered; see `myelin query models`")
    workers = {one.worker: one for one in await chain.list_workers(ask.model) if one.is_active}
    path = choose_path(map(_make_offer, workers.values()), manifest.architecture.layers, ask.max_price)
    report(PathChosen(tuple(workers[one.worker] for one in path)))
    session_key = SigningKey.from_seed(os.urandom(32))
    stages = tuple(_make_stage(one) for one in path)
    session, deposit = await _open_escrow(account, ask, stages, session_key, report)
    order = sign_order(_make_order(chain.genesis, session, deposit, manifest, ask, stages), session_key)
    machine = ClientRequest(order, ask.prompt, session_key)
    peers = [_make_peer(number, workers[one.worker]) for number, one in enumerate(path)]
    try:
        failure = await _stream(host, machine, peers, report)
    except StageUnreachable as error:
        failure = RequestFailed(error.stage, FailureCode.NEIGHBOUR_LOST, str(error))
    if failure is not None and not machine.is_signed:
        raise await _give_back(account, session, failure)
    request = compute_request_id(order.order)
    found = await _wait_settled(chain, request)
    if found is None:
        silence = f"the answer is complete, but nobody settled it within {SETTLE_TIMEOUT_S:.0f} s"
        raise await _give_back(account, session, failure or RequestFailed(len(path) - 1, FailureCode.INTERNAL, silence))
    return await follow_request(chain, request, found, report)


async def follow_request(chain: RpcChain, request: bytes, found: Request, report: Report) -> RequestDone:
    """What the chain says of a settled request until it is all resolved. Raises InferenceRefused if it is lost."""
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


async def _wait_settled(chain: RpcChain, request: bytes) -> Request | None:
    give_up_s = trio.current_time() + SETTLE_TIMEOUT_S
    while trio.current_time() < give_up_s:
        found = await chain.get_request(request)
        if found is not None:
            return found
        await trio.sleep(POLL_S)
    return None


async def _open_escrow(
    account: SigningAccount, ask: Ask, stages: tuple[PathStage, ...], session_key: SigningKey, report: Report
) -> tuple[bytes, int]:
    deposit = await _compute_deposit(account, stages, ask)
    call = OpenSession(ask.model, session_key.public_key, ask.max_price, deposit, 1)
    opened = await account.execute(call)
    session = next(bytes.fromhex(one["session"][2:]) for one in opened.events if one["type"] == "SessionOpened")
    report(EscrowOpened(session, deposit, opened.extrinsic, opened.height))
    return session, deposit


async def _stream(
    host: P2PHost, machine: ClientRequest, peers: list[StagePeer], report: Report
) -> RequestFailed | None:
    """Report tokens until the settlement is sent; returns the failure if there is one."""
    started_s = trio.current_time()
    async with open_request(host, machine, peers) as progress:
        async for event in progress:
            match event:
                case TokenReceived():
                    report(Generated(event.token, event.finish, trio.current_time() - started_s))
                case RequestFailed():
                    return event
                case SettlementSent():
                    return None
    raise AssertionError("a request ends with a settlement or a failure")


async def _give_back(account: SigningAccount, session: bytes, failure: RequestFailed) -> RequestLost:
    """Close the session after a failure, so that the escrow returns when the notice period ends."""
    try:
        closing = await account.execute(CloseSession(session))
        event = next(one for one in closing.events if one["type"] == "SessionClosing")
        height = int(event["close_height"])
    except CallFailed:  # it has ended by itself: what was left came back then
        height = await account.chain.get_height()
    entry = await account.chain.get_session(session)
    return RequestLost(failure, session, height, entry.escrow if entry is not None else 0)


async def _compute_deposit(account: SigningAccount, stages: tuple[PathStage, ...], ask: Ask) -> int:
    price = sum(compute_stage_price(one, len(ask.prompt), ask.tokens_max) for one in stages)
    params = await account.chain.read(queries.read_params)
    return max(price, params.session_deposit_min)


def _make_order(
    genesis: bytes, session: bytes, deposit: int, manifest: Manifest, ask: Ask, stages: tuple[PathStage, ...]
) -> Order:
    prompt = b"".join(one.to_bytes(TOKEN_BYTES, "little") for one in ask.prompt)
    return Order(
        genesis=genesis,
        session=session,
        sequence=0,
        slice_start=0,
        slice_end=deposit,
        model=ask.model,
        service_class=ServiceClass(manifest.service_class),
        prompt_hash=compute_prompt_hash(prompt),
        prompt_tokens=len(ask.prompt),
        tokens_max=ask.tokens_max,
        sampling=ask.sampling,
        path=stages,
    )


def _make_offer(worker: WorkerEntry) -> LayerOffer:
    return LayerOffer(worker.worker, worker.start, worker.end, worker.prefill_price, worker.decode_price)


def _make_stage(offer: LayerOffer) -> PathStage:
    return PathStage(offer.worker, offer.start, offer.end, offer.prefill_price, offer.decode_price)


def _make_peer(number: int, worker: WorkerEntry) -> StagePeer:
    return StagePeer(f"stage {number} (worker {worker.worker.hex()[:12]})", worker.peer_id, worker.addresses)
