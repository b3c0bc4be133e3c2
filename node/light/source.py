"""Where a light client gets what it asks for. Nothing that comes from there is believed."""

from __future__ import annotations

from typing import Protocol

from consensus.light.verify import Handover
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.types.gossip import LIGHT_PROTOCOL, LightBlock, LightRequest, LightResponse

LIGHT_BLOCK_BYTES_MAX = 512 * 1024
"""A commit of 1,024 signatures and a set of as many members take 190 KiB."""


class SourceLost(Exception):
    """The source does not answer, or answers nonsense. The message says which source and why."""


class LightSource(Protocol):
    """A full node, somehow reached."""

    @property
    def name(self) -> str:
        """For people."""

    async def get_block(self, height: int) -> LightBlock | None:
        """The light block of a height, 0 being the newest; None when it has none. Raises SourceLost."""

    async def get_handover(self, height: int) -> Handover | None:
        """Who was elected by the state after a block; None when that state is not kept. Raises SourceLost."""


class PeerSource:
    """A peer over /myelin/light/1, which knows no handovers."""

    def __init__(self, host: P2PHost, peer: str, timeout_s: float = 5.0) -> None:
        self._host = host
        self._peer = peer
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        """The peer id."""
        return self._peer

    async def get_block(self, height: int) -> LightBlock | None:
        """See LightSource."""
        body = encode(LightRequest(height))
        try:
            answer = await request(
                self._host,
                self._peer,
                LIGHT_PROTOCOL,
                body,
                timeout_s=self._timeout_s,
                max_response_bytes=LIGHT_BLOCK_BYTES_MAX,
            )
            return decode(LightResponse, answer, LIGHT_BLOCK_BYTES_MAX).found
        except (NetworkError, ProtocolError) as error:
            raise SourceLost(f"{self._peer}: {error}") from error

    async def get_handover(self, height: int) -> Handover | None:
        """Peers are not asked for state."""
        return None
