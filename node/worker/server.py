"""The worker's two libp2p protocols: clients open requests, neighbours send frames of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from inference.errors import KvExhaustedError
from inference.serving.stage import StageSetup
from node.p2p.errors import NetworkError
from node.p2p.framing import FramedStream
from node.p2p.host import P2PHost
from node.serving.chain import ChainUnreachable, ChainView, WorkerEntry
from node.serving.link import FrameLink
from node.worker.compute import ComputeLoop
from node.worker.edges import EdgePool
from node.worker.orders import OrderRefused, Outstanding, admit_order
from node.worker.requests import ActiveRequest, Keeper, PathPeers, Requests
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import DecodeError
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import SignedOrder, compute_request_id
from proto_specs.types.wire import (
    REQUEST_PROTOCOL,
    STAGE_PROTOCOL,
    Accepted,
    Failed,
    FailureCode,
    OpenRequest,
)

logger = logging.getLogger("myelin.worker")

OPEN_TIMEOUT_S = 10.0
CLIENT_STREAMS_PER_PEER_MAX = 16
EDGE_STREAMS_PER_PEER_MAX = 4


@dataclass(frozen=True)
class WorkerParts:
    """What a serving worker is made of."""

    entry: WorkerEntry
    manifest: Manifest
    worker_key: SigningKey
    chain: ChainView
    compute: ComputeLoop
    keeper: Keeper


class WorkerServer:
    """Serves one shard on a host until its nursery is cancelled."""

    def __init__(self, host: P2PHost, nursery: trio.Nursery, parts: WorkerParts) -> None:
        self._parts = parts
        self._nursery = nursery
        self._outstanding = Outstanding()
        self.requests = Requests()
        self._edges = EdgePool(host, nursery, self.requests.read_link)
        host.serve(
            REQUEST_PROTOCOL,
            self._serve_client,
            max_frame_bytes=FRAME_BYTES_MAX,
            max_streams_per_peer=CLIENT_STREAMS_PER_PEER_MAX,
        )
        host.serve(
            STAGE_PROTOCOL,
            self._serve_neighbour,
            max_frame_bytes=FRAME_BYTES_MAX,
            max_streams_per_peer=EDGE_STREAMS_PER_PEER_MAX,
        )

    async def _serve_client(self, stream: FramedStream, peer_id: str) -> None:
        """One request a stream: the first frame opens it. The request outlives the stream where it can."""
        link = FrameLink(stream, peer_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            with trio.fail_after(OPEN_TIMEOUT_S):
                frame = await link.receive()
            if not isinstance(frame, OpenRequest):
                raise DecodeError(f"a request begins with OpenRequest, not {type(frame).__name__}")
            request = compute_request_id(frame.order.order)
            try:
                active = await self._open(frame.order, link)
            except OrderRefused as refusal:
                logger.info("request %s refused: %s", request.hex()[:12], refusal)
                link.send(Failed(request, refusal.code, str(refusal)[:500]))
                await link.finish()
                return
            self._nursery.start_soon(self._run, active, frame.order)
            link.send(Accepted(request))
            await self.requests.read_link(link)
            nursery.cancel_scope.cancel()

    async def _serve_neighbour(self, stream: FramedStream, peer_id: str) -> None:
        link = FrameLink(stream, peer_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            await self.requests.read_link(link)
            nursery.cancel_scope.cancel()

    async def _open(self, order: SignedOrder, client: FrameLink) -> ActiveRequest:
        parts = self._parts
        if compute_request_id(order.order) in self.requests:
            raise OrderRefused(FailureCode.BAD_ORDER, "this request is under way already")
        try:
            admitted = await admit_order(order, parts.entry, parts.manifest, parts.chain, self._outstanding)
        except ChainUnreachable as error:
            raise OrderRefused(FailureCode.INTERNAL, f"this worker's node does not answer: {error}") from error
        stage, session, path = admitted
        peers = await self._reach_peers(stage, path, client)
        setup = StageSetup(order, stage, parts.manifest, session.session_key, parts.worker_key)
        active = ActiveRequest(setup, peers, parts.compute, parts.keeper)
        try:
            active.open()
        except KvExhaustedError as error:
            raise OrderRefused(FailureCode.NO_CAPACITY, str(error)) from error
        self._outstanding.add(order.order)
        self.requests.add(active)
        return active

    async def _reach_peers(self, stage: int, path: tuple[WorkerEntry, ...], client: FrameLink) -> PathPeers:
        last = len(path) - 1
        try:
            downstream = await self._connect(path[stage + 1]) if stage < last else None
            first = await self._connect(path[0]) if stage == last and stage > 0 else None
        except NetworkError as error:
            raise OrderRefused(FailureCode.NEIGHBOUR_LOST, str(error)) from error
        return PathPeers(tuple(one.peer_id for one in path), client, downstream, first)

    async def _connect(self, neighbour: WorkerEntry) -> FrameLink:
        return await self._edges.connect(neighbour.peer_id, neighbour.addresses)

    async def _run(self, active: ActiveRequest, order: SignedOrder) -> None:
        try:
            await self.requests.run(active)
        finally:
            self._outstanding.remove(order.order)
