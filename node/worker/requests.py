"""Requests under way on a worker: one task each drives the stage's state machine and performs its effects."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import trio

from inference.errors import InferenceError, WireDtypeError
from inference.serving.events import (
    Compute,
    Computed,
    Finished,
    GiveUp,
    Retain,
    StageEffect,
    SubmitSettlement,
    ToClient,
    ToDownstream,
    ToFirst,
    ToUpstream,
)
from inference.serving.record import RequestRecord
from inference.serving.stage import StageRequest, StageSetup
from node.p2p.errors import NetworkError
from node.serving.link import FrameLink, get_request_id
from node.worker.compute import Answer, ComputeLoop
from proto_specs.types.calls import Settle
from proto_specs.types.request import compute_positions
from proto_specs.types.wire import (
    Accepted,
    Countersign,
    Failed,
    FailureCode,
    Frame,
    OutputLeaf,
    RootsFrame,
    Rows,
    Settled,
    Token,
)

logger = logging.getLogger("myelin.worker")

INBOX_EVENTS_MAX = 2048
IDLE_S_MAX = 120.0


class Keeper(Protocol):
    """Where finished requests go: the disk and the chain."""

    async def retain(self, record: RequestRecord) -> None:
        """Write the record durably."""

    async def settle(self, request: bytes, call: Settle) -> bytes | None:
        """Keep and submit a settlement; the extrinsic hash, or None when the chain could not be reached yet."""


@dataclass(frozen=True)
class PathPeers:
    """libp2p peers of a path as registered on chain, and the links this stage sends on."""

    peer_ids: tuple[str, ...]
    client: FrameLink
    downstream: FrameLink | None
    first: FrameLink | None


class ActiveRequest:
    """One request on this stage."""

    def __init__(self, setup: StageSetup, peers: PathPeers, compute: ComputeLoop, keeper: Keeper) -> None:
        self.machine = StageRequest(setup)
        self.request = self.machine.request
        self._setup = setup
        self._peers = peers
        self._compute = compute
        self._keeper = keeper
        self._upstream: FrameLink | None = None
        self._inbox, self._events = trio.open_memory_channel[Frame | Computed | GiveUp](INBOX_EVENTS_MAX)
        self._is_done = False

    @property
    def stage(self) -> int:
        """Position in the path."""
        return self._setup.stage

    def open(self) -> None:
        """Reserve what the request needs. Raises KvExhaustedError when there is no room."""
        order = self._setup.order.order
        positions = compute_positions(order.prompt_tokens, order.tokens_max)
        self._compute.open(self.request, positions, order.prompt_tokens - 1, order.sampling, self._on_answer)

    async def run(self) -> None:
        """Handle events until the request finishes or fails; frees everything."""
        try:
            while not self._is_done:
                event = await self._next_event()
                effects = [event] if isinstance(event, GiveUp) else self.machine.handle(event)
                for effect in effects:
                    await self._perform(effect)
        finally:
            self._compute.close(self.request)
            self._events.close()

    def post(self, frame: Frame, link: FrameLink) -> None:
        """A frame of a neighbour or the client. One that comes from the wrong peer is dropped."""
        if not self._is_from_right_peer(frame, link):
            logger.warning("request %s: %s from a peer that may not send it", self._short, type(frame).__name__)
            return
        if isinstance(frame, Rows | OutputLeaf | RootsFrame):
            self._upstream = link
        self._put(frame)

    def link_lost(self, link: FrameLink) -> None:
        """A link this request depends on is gone."""
        path = self._setup.order.order.path
        if link is self._peers.client:
            if self.machine.needs_client:
                self._put(GiveUp(FailureCode.CANCELLED, "the client went away"))
        elif link is self._peers.downstream:
            key = path[self.stage + 1].worker.hex()[:12]
            self._put(GiveUp(FailureCode.NEIGHBOUR_LOST, f"stage {self.stage + 1} (worker {key}) went away"))
        elif link is self._upstream:
            key = path[self.stage - 1].worker.hex()[:12]
            self._put(GiveUp(FailureCode.NEIGHBOUR_LOST, f"stage {self.stage - 1} (worker {key}) went away"))
        elif link is self._peers.first:
            self._put(GiveUp(FailureCode.NEIGHBOUR_LOST, f"stage 0 (worker {path[0].worker.hex()[:12]}) went away"))

    @property
    def _short(self) -> str:
        return self.request.hex()[:12]

    def _put(self, event: Frame | Computed | GiveUp) -> None:
        try:
            self._inbox.send_nowait(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the request has ended meanwhile
        except trio.WouldBlock:
            logger.warning("request %s: %d events behind, giving up", self._short, INBOX_EVENTS_MAX)
            self._events.close()

    async def _next_event(self) -> Frame | Computed | GiveUp:
        try:
            with trio.fail_after(IDLE_S_MAX):
                return await self._events.receive()
        except trio.ClosedResourceError:
            return GiveUp(FailureCode.NO_CAPACITY, "too many frames at once")
        except trio.TooSlowError:
            return GiveUp(FailureCode.NEIGHBOUR_LOST, f"nothing happened for {IDLE_S_MAX:.0f} s")

    def _on_answer(self, answer: Answer) -> None:
        if isinstance(answer, InferenceError):
            code = FailureCode.BAD_INPUT if isinstance(answer, WireDtypeError) else FailureCode.INTERNAL
            self._put(GiveUp(code, str(answer)))
        else:
            self._put(answer)

    def _is_from_right_peer(self, frame: Frame, link: FrameLink) -> bool:
        if link is self._peers.client:
            return True  # what a client may send where, the state machine and its signatures decide
        peers, last = self._peers.peer_ids, len(self._peers.peer_ids) - 1
        match frame:
            case Rows() | OutputLeaf() | RootsFrame():
                return self.stage > 0 and link.peer_id == peers[self.stage - 1]
            case Countersign():
                return self.stage < last and link.peer_id == peers[self.stage + 1]
            case Token():
                return self.stage == 0 and link.peer_id == peers[last]
            case Failed():
                return link.peer_id in peers
            case _:
                return False

    async def _perform(self, effect: StageEffect) -> None:
        try:
            match effect:
                case Compute():
                    self._compute.submit(self.request, effect)
                case ToClient():
                    self._peers.client.send(effect.frame)
                case ToUpstream():
                    (self._upstream if self.stage else self._peers.client).send(effect.frame)  # type: ignore[union-attr]
                case ToDownstream():
                    self._peers.downstream.send(effect.frame)  # type: ignore[union-attr]
                case ToFirst():
                    self._send_to_first(effect.frame)
                case Retain():
                    await self._keeper.retain(effect.record)
                case SubmitSettlement():
                    await self._settle(effect.call)
                case Finished():
                    self._is_done = True
                    logger.info("request %s: finished at stage %d", self._short, self.stage)
                case GiveUp():
                    self._give_up(effect)
        except NetworkError as error:
            if not self._is_done and not isinstance(effect, ToClient):
                self._give_up(GiveUp(FailureCode.NEIGHBOUR_LOST, str(error)))

    def _send_to_first(self, frame: Frame) -> None:
        if self.stage == 0:
            self._put(frame)
        elif self._peers.first is not None:
            self._peers.first.send(frame)

    async def _settle(self, call: Settle) -> None:
        extrinsic = await self._keeper.settle(self.request, call)
        if extrinsic is not None:
            self._peers.client.send(Settled(self.request, extrinsic))

    def _give_up(self, reason: GiveUp) -> None:
        self._is_done = True
        logger.warning("request %s: given up at stage %d: %s", self._short, self.stage, reason.message)
        frame = Failed(self.request, reason.code, reason.message[:500])
        for link in (self._peers.client, self._upstream, self._peers.downstream, self._peers.first):
            if link is not None and not link.is_lost:
                try:
                    link.send(frame)
                except NetworkError as error:
                    logger.info("request %s: could not tell %s: %s", self._short, link.peer_id, error)


class Requests:
    """The requests under way by id, and the links their frames come over."""

    def __init__(self) -> None:
        self._active: dict[bytes, ActiveRequest] = {}

    def __len__(self) -> int:
        return len(self._active)

    def __contains__(self, request: bytes) -> bool:
        return request in self._active

    def add(self, active: ActiveRequest) -> None:
        """Make an opened request findable: from now on frames reach it."""
        assert active.request not in self._active, "a request runs once"
        self._active[active.request] = active

    async def run(self, active: ActiveRequest) -> None:
        """Run an added request to its end."""
        try:
            await active.run()
        finally:
            del self._active[active.request]

    async def read_link(self, link: FrameLink) -> None:
        """Route a neighbour's frames until the link ends; then tell the requests that depend on it.

        Raises DecodeError for garbage, which closes the stream.
        """
        try:
            while True:
                frame = await link.receive()
                self.route(frame, link)
        except NetworkError:
            pass
        finally:
            link.is_lost = True
            for active in list(self._active.values()):
                active.link_lost(link)

    def route(self, frame: Frame, link: FrameLink) -> None:
        """Hand a frame to its request; a frame about a request unknown here is answered, so nobody waits for it."""
        request = get_request_id(frame)
        active = self._active.get(request) if request is not None else None
        if active is not None:
            active.post(frame, link)
        elif request is not None and not isinstance(frame, Failed | Accepted | Settled):
            link.send(Failed(request, FailureCode.INTERNAL, "no such request is under way here"))
