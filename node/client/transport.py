"""Carries one request between the client's state machine and the stages of its path over libp2p."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from inference.serving.client import (
    ClientEffect,
    ClientRequest,
    PromptScored,
    RequestFailed,
    SettlementSent,
    TokenReceived,
    ToStage,
)
from node.client.link import FrameLink
from node.p2p.errors import NetworkError, PeerUnreachable
from node.p2p.host import P2PHost
from proto_specs.errors import ProtocolError
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.wire import REQUEST_PROTOCOL, Failed, FailureCode

DIAL_TIMEOUT_S = 5.0
PROGRESS_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 1.0

Progress = TokenReceived | PromptScored | SettlementSent | RequestFailed


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


@asynccontextmanager
async def open_request(
    host: P2PHost, machine: ClientRequest, peers: Sequence[StagePeer]
) -> AsyncIterator[trio.MemoryReceiveChannel[Progress]]:
    """Run a request; the channel yields tokens as they come and ends with SettlementSent or RequestFailed.

    Leaving the block early cancels the request at every stage. Raises StageUnreachable for the first unreachable stage;
    exceptions of the block pass through unchanged.
    """
    links = await _connect_all(host, peers)
    # Room for every item that can come: a slow reader loses nothing, and no stage can send more than was ordered.
    sender, receiver = trio.open_memory_channel[Progress](machine.tokens_max + 1)
    run = _RequestRun(machine, peers, links, sender)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            for number, link in enumerate(links):
                nursery.start_soon(link.run)
                nursery.start_soon(run.read, number, link)
            run.perform(machine.start())
            nursery.start_soon(run.watch)
            yield receiver
        except Exception as error:
            failure = error  # raised once outside, so that the nursery does not wrap it in a group
        finally:
            run.cancel()
            with trio.move_on_after(DRAIN_TIMEOUT_S) as scope:
                scope.shield = True
                await run.drain()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _connect_all(host: P2PHost, peers: Sequence[StagePeer]) -> list[FrameLink]:
    links: list[FrameLink] = []
    try:
        for number, peer in enumerate(peers):
            links.append(await _connect(host, number, peer))
    except BaseException:
        for link in links:
            link.reset("another stage cannot be reached")
        raise
    return links


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
    ) -> None:
        self._machine = machine
        self._peers = peers
        self._links = links
        self._progress = progress
        self._heard_s = trio.current_time()
        self._is_done = False

    async def read(self, number: int, link: FrameLink) -> None:
        """Feed one stage's frames to the machine until the request is done.

        Once everything is signed the stages settle among themselves, and only the last one sends more.
        """
        try:
            while not self._is_done:
                self.perform(self._machine.handle(number, await link.receive()))
                self._heard_s = trio.current_time()
        except NetworkError as error:
            if not (self._machine.is_signed and number < len(self._links) - 1):
                self._fail(number, FailureCode.NEIGHBOUR_LOST, f"{self._peers[number].name} went away ({error})")
        except ProtocolError as error:
            self._fail(number, FailureCode.BAD_INPUT, f"{self._peers[number].name} sent garbage ({error})")

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
        """Fail the request when no due frame came for 30 s. The machine itself fails it for a frame that is not due."""
        while not self._is_done:
            left_s = self._heard_s + PROGRESS_TIMEOUT_S - trio.current_time()
            if left_s <= 0:
                number = self._machine.get_awaited_stage()
                silent = f"nothing came from {self._peers[number].name} for {PROGRESS_TIMEOUT_S:.0f} s"
                self._fail(number, FailureCode.NEIGHBOUR_LOST, silent)
                return
            await trio.sleep(left_s)

    def cancel(self) -> None:
        """Tell every stage that the client cancels the request; does nothing when it is done."""
        if self._is_done:
            return
        self._is_done = True
        for link in self._links:
            if not link.is_lost:
                try:
                    link.send(Failed(self._machine.request, FailureCode.CANCELLED, "cancelled by the client"))
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
            self._report(RequestFailed(number, code, message))

    def _report(self, progress: Progress) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # the reader has left
            self._progress.send_nowait(progress)
        if isinstance(progress, SettlementSent | RequestFailed):
            if isinstance(progress, RequestFailed):
                self.cancel()
            self._is_done = True
            self._progress.close()
