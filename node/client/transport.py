"""Carries one request between the client's state machine and the stages of its path over libp2p."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from inference.serving.client import (
    ClientEffect,
    ClientRequest,
    PromptScored,
    RequestFailed,
    SettlementSent,
    StatementAwaited,
    TokenReceived,
    ToStage,
)
from node.client.link import FrameLink
from node.client.stalls import TAKES_NO_ROWS, StallWatch
from node.p2p.errors import NetworkError, PeerUnreachable
from node.p2p.host import P2PHost
from proto_specs.errors import ProtocolError
from proto_specs.limits import FRAME_BYTES_MAX, POSITIONS_MAX
from proto_specs.types.wire import REQUEST_PROTOCOL, Accepted, Failed, FailureCode, Frame, Ping, Pong

DIAL_TIMEOUT_S = 5.0
ACCEPT_TIMEOUT_S = 10.0
PROGRESS_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class StageAccepted:
    """Stage number `stage` takes part."""

    stage: int


@dataclass(frozen=True, slots=True)
class AnswerSigned:
    """The answer is complete and everything is signed: the stages settle, whether the client stays or not."""


@dataclass(frozen=True, slots=True)
class StageLost(RequestFailed):
    """What this side found of a stage: it went away, is silent, or breaks the protocol. It has not said so itself."""


MayReplace = Callable[[int], bool]
"""Whether others could take the place of a stage that makes no progress: if not, it is waited for."""

Progress = (
    StageAccepted | TokenReceived | PromptScored | AnswerSigned | SettlementSent | StatementAwaited | RequestFailed
)


class StageUnreachable(PeerUnreachable):
    """Stage number `stage` of the path cannot be reached at any of its addresses."""

    def __init__(self, stage: int, message: str) -> None:
        super().__init__(message)
        self.stage = stage


@dataclass(frozen=True, slots=True)
class StagePeer:
    """The addresses of a stage of the path."""

    name: str
    peer_id: str
    addresses: tuple[str, ...]


class RequestTransport(Protocol):
    """How requests reach workers."""

    async def connect(self, peers: Sequence[StagePeer]) -> list[FrameLink]:
        """A link to every stage. Raises StageUnreachable."""

    def open(
        self, machine: ClientRequest, peers: Sequence[StagePeer], links: list[FrameLink], may_replace: MayReplace
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Progress]]:
        """Run a request over links; see `open_request`."""


class P2PTransport:
    """Over a libp2p host: a stream for each stage and request, on connections that stay."""

    def __init__(self, host: P2PHost) -> None:
        self._host = host

    async def connect(self, peers: Sequence[StagePeer]) -> list[FrameLink]:
        """See `connect_stages`."""
        return await connect_stages(self._host, peers)

    def open(
        self, machine: ClientRequest, peers: Sequence[StagePeer], links: list[FrameLink], may_replace: MayReplace
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Progress]]:
        """See `open_request`."""
        return open_request(machine, peers, links, may_replace)


async def connect_stages(host: P2PHost, peers: Sequence[StagePeer]) -> list[FrameLink]:
    """A stream to every stage, all dialled at once. Raises StageUnreachable for the first that cannot be reached."""
    links: dict[int, FrameLink] = {}
    failures: list[StageUnreachable] = []

    async def connect(number: int, peer: StagePeer) -> None:
        try:
            links[number] = await _connect(host, number, peer)
        except StageUnreachable as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for number, peer in enumerate(peers):
                nursery.start_soon(connect, number, peer)
        if failures:
            raise failures[0]
    except BaseException:
        for link in links.values():
            link.reset("another stage cannot be reached")
        raise
    return [links[number] for number in range(len(peers))]


@asynccontextmanager
async def open_request(
    machine: ClientRequest,
    peers: Sequence[StagePeer],
    links: list[FrameLink],
    may_replace: MayReplace = lambda stage: False,
) -> AsyncIterator[trio.MemoryReceiveChannel[Progress]]:
    """Run a request; the channel yields tokens as they come, and its end: see Progress.

    It ends with SettlementSent, StatementAwaited or RequestFailed. A failure leaves the stages with what they have, for
    another order to go on from. A stage that makes no progress is a failure once `may_replace` says that others could
    take its place. Leaving the block before AnswerSigned cancels the request at every stage. Exceptions of the block
    pass through unchanged.
    """
    # Room for every item that can come: a slow reader loses nothing, and no stage can send more than was ordered.
    sender, receiver = trio.open_memory_channel[Progress](machine.tokens_max + POSITIONS_MAX + len(links) + 2)
    run = _RequestRun(machine, peers, links, sender, may_replace)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            nursery.start_soon(run.write)
            for number, link in enumerate(links):
                nursery.start_soon(run.read, number, link)
            run.perform(machine.start())
            nursery.start_soon(run.watch)
            nursery.start_soon(run.watch_stalls)
            yield receiver
        except Exception as error:
            failure = error  # raised once outside, so that the nursery does not wrap it in a group
        finally:
            run.cancel()
            with trio.move_on_after(DRAIN_TIMEOUT_S) as scope:
                scope.shield = True
                await run.drain()
            run.stop_writing()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _connect(host: P2PHost, number: int, peer: StagePeer) -> FrameLink:
    failures: list[str] = []
    for address in peer.addresses:
        try:
            stream = await host.open_stream(
                address, REQUEST_PROTOCOL, timeout_s=DIAL_TIMEOUT_S, max_frame_bytes=FRAME_BYTES_MAX
            )
        except NetworkError as error:
            failures.append(str(error))
            continue
        return FrameLink(stream, peer.peer_id)
    raise StageUnreachable(number, f"{peer.name} cannot be reached: {'; '.join(failures) or 'no address'}")


class _RequestRun:
    """One running request: reads every stage, feeds the machine, reports progress."""

    def __init__(
        self,
        machine: ClientRequest,
        peers: Sequence[StagePeer],
        links: list[FrameLink],
        progress: trio.MemorySendChannel[Progress],
        may_replace: MayReplace,
    ) -> None:
        self._machine = machine
        self._peers = peers
        self._links = links
        self._progress = progress
        self._may_replace = may_replace
        self._heard_s = trio.current_time()
        self._stalls = StallWatch(self._heard_s)
        self._pings = 0
        self._accepted = 0
        self._is_signed = False
        self._is_done = False
        self._writing = trio.CancelScope(shield=True)

    async def write(self) -> None:
        """Write to every stage until `stop_writing`: a caller that is cancelled still tells them that it is."""
        with self._writing:
            async with trio.open_nursery() as nursery:
                for link in self._links:
                    nursery.start_soon(link.run)

    def stop_writing(self) -> None:
        """Drop what is not written by now, and the streams of those who do not take it."""
        self._writing.cancel()
        for link in self._links:
            if not link.is_written:
                link.reset("the peer takes no frames")

    async def read(self, number: int, link: FrameLink) -> None:
        """Feed one stage's frames to the machine until the request is done.

        Once everything is signed the stages settle among themselves, and only the last one sends more.
        """
        try:
            while not self._is_done:
                self._take(number, await link.receive())
        except NetworkError as error:
            if not (self._machine.is_signed and number < len(self._links) - 1):
                self._fail(number, FailureCode.NEIGHBOUR_LOST, f"{self._peers[number].name} went away ({error})")
        except ProtocolError as error:
            self._fail(number, FailureCode.BAD_INPUT, f"{self._peers[number].name} sent garbage ({error})")

    def _take(self, number: int, frame: Frame) -> None:
        now_s = trio.current_time()
        if isinstance(frame, Pong):
            self._stalls.note_pong(number, frame, now_s)
            return
        effects = self._machine.handle(number, frame)
        self._heard_s = now_s
        self._stalls.note_moved(now_s)
        if isinstance(frame, Accepted) and not any(isinstance(one, RequestFailed) for one in effects):
            self._accepted += 1
            self._stalls.accept(number)
            self._report(StageAccepted(number))
        if not isinstance(frame, Failed):
            effects = [_blame(one) for one in effects]
        self.perform(effects)
        if self._machine.is_signed and not self._is_signed and not self._is_done:
            self._is_signed = True
            self._report(AnswerSigned())

    def perform(self, effects: list[ClientEffect]) -> None:
        """Send the machine's frames, and report progress to the user."""
        for effect in effects:
            if self._is_done:
                return
            if isinstance(effect, ToStage):
                self._send(effect)
            else:
                self._report(effect)

    async def watch(self) -> None:
        """Fail the request when no due frame came for 30 s, or no acceptance for 10 s.

        The machine itself fails it for a frame that is not due.
        """
        while not self._is_done:
            timeout_s = PROGRESS_TIMEOUT_S if self._accepted == len(self._links) else ACCEPT_TIMEOUT_S
            left_s = self._heard_s + timeout_s - trio.current_time()
            if left_s <= 0:
                number = self._machine.get_awaited_stage()
                silent = f"nothing came from {self._peers[number].name} for {timeout_s:.0f} s"
                self._fail(number, FailureCode.NEIGHBOUR_LOST, silent)
                return
            await trio.sleep(left_s)

    async def watch_stalls(self) -> None:
        """Ask the stages how far they are when nothing comes, and fail the request for one that is lost or stuck."""
        while not self._is_done:
            now_s = trio.current_time()
            await trio.sleep(self._stalls.get_next_look(now_s))
            if self._is_done or self._is_signed:
                return
            now_s = trio.current_time()
            for number in self._stalls.list_due(now_s):
                self._pings += 1
                with contextlib.suppress(NetworkError):  # its reader finds that it is gone
                    self._links[number].send(Ping(self._machine.request, self._pings & 0xFFFFFFFF))
            stalled = self._stalls.find_stalled(now_s)
            if stalled is not None and self._may_replace(stalled[0]):
                number, what = stalled
                message = f"{self._peers[number].name} {what}"
                if what == TAKES_NO_ROWS:  # so says the stage before
                    self._report(StageLost(number - 1, FailureCode.NEIGHBOUR_LOST, message, number))
                else:
                    self._fail(number, FailureCode.NEIGHBOUR_LOST, message)

    def cancel(self, failure: RequestFailed | None = None) -> None:
        """Tell every stage that the client leaves the request; does nothing when it is done, or all is signed.

        After a failure of one the others keep what they have for a while: another order may go on from it.
        """
        if self._is_done:
            return
        self._is_done = True
        if self._is_signed:
            return
        is_moving = self._accepted == len(self._links) or self._machine.order.order.continuation is not None
        told = Failed(self._machine.request, FailureCode.CANCELLED, "cancelled by the client")
        if failure is not None and is_moving:
            lost = failure.stage if failure.lost is None else failure.lost
            told = Failed(self._machine.request, FailureCode.MOVED, "the client goes on elsewhere", lost)
        for link in self._links:
            if not link.is_lost:
                try:
                    link.send(told)
                except NetworkError:
                    continue

    async def drain(self) -> None:
        """Let queued frames be written, then close every stream."""
        for link in self._links:
            await link.finish()

    def _send(self, effect: ToStage) -> None:
        try:
            self._links[effect.stage].send(effect.frame)
        except NetworkError as error:
            name = self._peers[effect.stage].name
            self._fail(effect.stage, FailureCode.NEIGHBOUR_LOST, f"{name} takes no frames ({error})")

    def _fail(self, number: int, code: FailureCode, message: str) -> None:
        if not self._is_done:
            self._report(StageLost(number, code, message))

    def _report(self, progress: Progress) -> None:
        if self._is_done:  # what another stage sent before it learned of the end
            return
        with contextlib.suppress(trio.BrokenResourceError):  # the reader has left
            self._progress.send_nowait(progress)
        if isinstance(progress, SettlementSent | StatementAwaited | RequestFailed):
            if isinstance(progress, RequestFailed):
                self.cancel(progress)
            self._is_done = True
            self._progress.close()


def _blame(effect: ClientEffect) -> ClientEffect:
    """A failure that the stage did not state itself."""
    return StageLost(effect.stage, effect.code, effect.message) if isinstance(effect, RequestFailed) else effect
