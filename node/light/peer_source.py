"""A light client's source over libp2p: a peer that serves /myelin/light/1."""

from __future__ import annotations

from consensus.light.verify import Handover
from node.light.errors import SourceLost
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.types.gossip import LIGHT_PROTOCOL, LightBlock, LightRequest, LightResponse

LIGHT_BLOCK_BYTES_MAX = 512 * 1024
"""A commit of 1,024 signatures and a set of as many members take 190 KiB."""


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
