"""Serves light blocks to peers."""

from __future__ import annotations

import trio

from node.machine.rate import RateLimit
from node.p2p.host import P2PHost
from node.store.chain_store import ChainStore
from node.store.light_blocks import find_light_block
from proto_specs.codec import decode, encode
from proto_specs.types.gossip import LIGHT_PROTOCOL, LightRequest, LightResponse

REQUEST_BYTES_MAX = 64
STREAMS_PER_PEER = 16
TIMEOUT_S = 10.0
REQUESTS_PER_S, BURST_REQUESTS = 200, 2_000
"""Requests a second from one peer; a faster peer waits for its answers."""


def serve_light_blocks(host: P2PHost, store: ChainStore) -> None:
    """Answer /myelin/light/1."""

    rate = RateLimit(REQUESTS_PER_S, BURST_REQUESTS)

    async def answer(body: bytes, peer: str) -> bytes:
        request = decode(LightRequest, body, REQUEST_BYTES_MAX)
        await trio.sleep(rate.take(peer, 1, trio.current_time()))
        return encode(LightResponse(find_light_block(store, request.height)))

    host.serve_requests(
        LIGHT_PROTOCOL,
        answer,
        max_request_bytes=REQUEST_BYTES_MAX,
        max_streams_per_peer=STREAMS_PER_PEER,
        timeout_s=TIMEOUT_S,
    )
