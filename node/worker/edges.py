"""Long-lived streams to neighbouring workers: dialled once, shared by all requests, redialled when lost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from node.client.link import FrameLink
from node.p2p.errors import NetworkError, PeerUnreachable
from node.p2p.host import P2PHost
from proto_specs.errors import ProtocolError
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.wire import STAGE_PROTOCOL

logger = logging.getLogger("myelin.worker")

DIAL_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 10.0
"""For all addresses of a peer together: a peer with eight dead addresses causes no longer delay than this."""


class EdgePool:
    """Outgoing links by peer. `reader` runs for each link until it ends."""

    def __init__(self, host: P2PHost, nursery: trio.Nursery, reader: Callable[[FrameLink], Awaitable[None]]) -> None:
        self._host = host
        self._nursery = nursery
        self._reader = reader
        self._links: dict[str, FrameLink] = {}
        self._dialling: dict[str, trio.Lock] = {}

    async def connect(self, peer_id: str, addresses: tuple[str, ...]) -> FrameLink:
        """The link to a peer. Raises PeerUnreachable when none of its addresses answers, 5 s each, 10 s in all."""
        with trio.move_on_after(CONNECT_TIMEOUT_S):
            async with self._dialling.setdefault(peer_id, trio.Lock()):
                link = self._links.get(peer_id)
                if link is None or link.is_lost:
                    link = self._links[peer_id] = await self._dial(peer_id, addresses)
                return link
        raise PeerUnreachable(f"worker {peer_id} cannot be reached within {CONNECT_TIMEOUT_S:.0f} s")

    async def _dial(self, peer_id: str, addresses: tuple[str, ...]) -> FrameLink:
        failures: list[str] = []
        for address in addresses:
            try:
                stream = await self._host.open_stream(
                    address, STAGE_PROTOCOL, timeout_s=DIAL_TIMEOUT_S, max_frame_bytes=FRAME_BYTES_MAX
                )
            except NetworkError as error:
                failures.append(f"{address}: {error}")
                continue
            if stream.peer_id != peer_id:
                stream.reset("another peer answers at this address")
                failures.append(f"{address}: answered by {stream.peer_id}")
                continue
            link = FrameLink(stream, peer_id)
            self._nursery.start_soon(self._serve, link)
            return link
        raise PeerUnreachable(f"worker {peer_id} cannot be reached ({'; '.join(failures) or 'it has no address'})")

    async def _serve(self, link: FrameLink) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.run)
                await self._reader(link)
                nursery.cancel_scope.cancel()
        except* ProtocolError as group:
            logger.warning("peer %s sent garbage: %s", link.peer_id, group.exceptions[0])
        finally:
            link.reset("the edge ended")
            if self._links.get(link.peer_id) is link:
                del self._links[link.peer_id]
