"""The worker's two libp2p protocols: clients open requests, neighbours send their frames."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field, replace

import trio

from inference.errors import DecodingError, KvExhaustedError, ModelError
from inference.serving.setup import StageSetup
from node.client.chain_view import AdmissionView, ChainUnreachable, WorkerEntry
from node.client.link import FrameLink, make_failed
from node.p2p.errors import NetworkError
from node.p2p.framing import FramedStream
from node.p2p.host import P2PHost
from node.worker.active import ActiveRequest
from node.worker.archive import RequestArchive
from node.worker.attachments import check_attached
from node.worker.compute import ComputeLoop
from node.worker.drafting import DraftSource
from node.worker.edges import EdgePool
from node.worker.fence import Fence
from node.worker.handover import Takeover, prepare_handover
from node.worker.orders import OrderAdmission, admit_order
from node.worker.outstanding import Outstanding
from node.worker.path_peers import PathPeers
from node.worker.presence import Presence
from node.worker.refusal import OrderRefused
from node.worker.request_journal import RequestJournal
from node.worker.requests import Requests
from node.worker.settled import check_settled
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import DecodeError
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import compute_price_max, compute_request_id
from proto_specs.types.wire import REQUEST_PROTOCOL, STAGE_PROTOCOL, FailureCode, OpenRequest

logger = logging.getLogger("myelin.worker")

OPEN_TIMEOUT_S = 10.0
CLIENT_STREAMS_PER_PEER_MAX = 256
EDGE_STREAMS_PER_PEER_MAX = 4
SESSION_POLL_S = 2.0


@dataclass(frozen=True)
class WorkerParts:
    """The parts of a serving worker."""

    entry: WorkerEntry
    manifest: Manifest
    worker_key: SigningKey
    chain: AdmissionView
    compute: ComputeLoop
    archive: RequestArchive
    journal: RequestJournal
    presence: Presence = field(default_factory=Presence)
    drafts: DraftSource = field(default_factory=DraftSource)


class WorkerServer:
    """Serves one shard on a host until its nursery is cancelled."""

    def __init__(self, host: P2PHost, nursery: trio.Nursery, parts: WorkerParts) -> None:
        self._parts = parts
        self._nursery = nursery
        self.outstanding = Outstanding()
        self.requests = Requests()
        self._fence = Fence()
        self.presence = parts.presence
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
        nursery.start_soon(self._watch_sessions)

    async def _serve_client(self, stream: FramedStream, peer_id: str) -> None:
        """One request per stream: the first frame opens it. A request may outlive its stream."""
        link = FrameLink(stream, peer_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            opened = await _receive_order(link)
            try:
                active = await self._open(opened, link)
            except OrderRefused as refusal:
                request = compute_request_id(opened.order.order)
                logger.info("request %s refused: %s", request.hex()[:12], refusal)
                link.send(make_failed(request, refusal.code, str(refusal)))
                await link.finish()
                return
            self._nursery.start_soon(self._run, active, opened.batched)
            await self.requests.read_link(link)
            nursery.cancel_scope.cancel()

    async def _serve_neighbour(self, stream: FramedStream, peer_id: str) -> None:
        link = FrameLink(stream, peer_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            await self.requests.read_link(link)
            nursery.cancel_scope.cancel()

    async def _open(self, opened: OpenRequest, client: FrameLink) -> ActiveRequest:
        """Take an order: reserve its price and its memory, reach its neighbours. Raises OrderRefused."""
        parts, order = self._parts, opened.order
        if self.presence.leaving is not None:
            raise OrderRefused(FailureCode.LEAVING, self.presence.leaving)
        try:
            admission = await admit_order(order, parts.entry, parts.manifest, parts.chain, self.outstanding)
        except ChainUnreachable as error:
            raise OrderRefused(FailureCode.INTERNAL, f"this worker's node does not answer: {error}") from error
        try:
            check_attached(opened, admission.stage, parts.manifest.architecture.vocab)
            parts.journal.check(compute_request_id(order.order), admission.session)
            session_key, attached = admission.session.session_key, (opened.prompt, opened.grammar)
            await check_settled(order.order, opened.settled, admission.session, parts.manifest, parts.chain)
            handover = prepare_handover(opened, session_key, parts.entry.worker, self.requests, self._fence)
            if opened.settled is not None:  # it frees positions: whoever should submit it may keep it
                self.outstanding.expect(order.order.session, opened.settled.order.order.sequence)
            peers = await self._reach_peers(admission, client)
            handover.freeze()
            setup = StageSetup(order, admission.stage, parts.manifest, session_key, parts.worker_key, *attached)
            setup = replace(setup, kept=handover.get_kept(), batched=opened.batched)
            active = ActiveRequest(setup, peers, parts.compute, parts.archive, parts.drafts)
            await self._reserve(active, admission, handover)
        except BaseException as error:
            self.outstanding.release(order.order)
            if isinstance(error, ModelError):
                raise OrderRefused(_classify(error), str(error)) from error
            raise
        self.requests.add(active)
        await handover.complete(parts.archive)
        return active

    async def _reserve(self, active: ActiveRequest, admission: OrderAdmission, handover: Takeover) -> None:
        """Reserves memory, then writes the journal. The journal uses the order up, so this comes last."""
        try:
            await active.open(handover.memory_of)
        except BaseException:
            handover.abandon()
            raise
        try:
            await self._parts.journal.take(active.request, admission.session)
        except BaseException as error:
            handover.abandon()
            await self._parts.compute.close(active.request)
            if isinstance(error, OSError):
                logger.error("cannot note a request on disk, so none is taken: %s", error)
                raise OrderRefused(FailureCode.INTERNAL, "the worker cannot write to its disk") from error
            raise

    async def _reach_peers(self, admission: OrderAdmission, client: FrameLink) -> PathPeers:
        stage, path = admission.stage, admission.path
        last = len(path) - 1
        try:
            downstream = await self._connect(path[stage + 1]) if stage < last else None
            first = await self._connect(path[0]) if stage == last and stage > 0 else None
        except NetworkError as error:
            raise OrderRefused(FailureCode.NEIGHBOUR_LOST, str(error)) from error
        return PathPeers(tuple(one.peer_id for one in path), client, downstream, first)

    async def _connect(self, neighbour: WorkerEntry) -> FrameLink:
        """Raises NetworkError. A neighbour that started again has another address than was read a while ago."""
        try:
            return await self._edges.connect(neighbour.peer_id, neighbour.addresses)
        except NetworkError:
            now = None
            with contextlib.suppress(ChainUnreachable):
                now = await self._parts.chain.get_worker(neighbour.worker, fresh=True)
            known = (neighbour.peer_id, neighbour.addresses)
            if now is None or now.peer_id != neighbour.peer_id or (now.peer_id, now.addresses) == known:
                raise
            return await self._edges.connect(now.peer_id, now.addresses)

    async def _run(self, active: ActiveRequest, batched: bool) -> None:
        try:
            await self.requests.run(active)
        except Exception:  # a bug that one request meets must not end the others
            logger.exception("request %s: failed inside this worker", active.request.hex()[:12])
        finally:
            self.outstanding.end(active.order, active.is_settling, batched=batched)

    async def _watch_sessions(self) -> None:
        """Stop requests whose session closes or is emptied by others: after the notice period nothing is settled."""
        while True:
            await trio.sleep(SESSION_POLL_S)
            try:
                await self._stop_unpaid()
            except ChainUnreachable as error:
                logger.warning("the node does not answer: %s", error)

    async def _stop_unpaid(self) -> None:
        for active in self.requests.list_running():
            if await self._parts.chain.get_settled_positions(active.request) is not None:
                active.give_up(FailureCode.NO_ESCROW, "the request was settled while it was under way")
        by_session: dict[bytes, list[ActiveRequest]] = {}
        for active in self.requests.list_settled_here():
            by_session.setdefault(active.order.session, []).append(active)
        for session, actives in by_session.items():
            found = await self._parts.chain.get_session(session)
            for active in actives:
                if found is None or not found.is_open or not found.requests_left:
                    active.stop(FailureCode.NO_ESCROW, "the session takes no more requests")
                elif compute_price_max(active.order) > found.escrow:
                    active.stop(FailureCode.NO_ESCROW, "the session's escrow went to other requests")


def _classify(error: ModelError) -> FailureCode:
    match error:
        case KvExhaustedError():
            return FailureCode.NO_CAPACITY
        case DecodingError():
            return FailureCode.BAD_ORDER
        case _:
            return FailureCode.INTERNAL


async def _receive_order(link: FrameLink) -> OpenRequest:
    with trio.move_on_after(OPEN_TIMEOUT_S):
        frame = await link.receive()
        if not isinstance(frame, OpenRequest):
            raise DecodeError(f"a request begins with OpenRequest, not {type(frame).__name__}")
        return frame
    raise DecodeError(f"no order came within {OPEN_TIMEOUT_S:.0f} s")
