"""What a full node serves to light clients, from its store."""

from __future__ import annotations

from node.p2p.host import P2PHost
from node.store.chain_store import ChainStore
from proto_specs.codec import decode, encode
from proto_specs.types.gossip import LIGHT_PROTOCOL, LightBlock, LightRequest, LightResponse

REQUEST_BYTES_MAX = 64
STREAMS_PER_PEER = 4
TIMEOUT_S = 10.0


def find_light_block(store: ChainStore, height: int) -> LightBlock | None:
    """The light block of a height, 0 being the newest; None where header, commit or set are not here.

    Sets are kept by hash (storage.md), so also after their state is pruned.
    """
    height = height or store.get_head().height
    header, commit = store.get_header(height), store.get_commit(height)
    if header is None or commit is None:
        return None
    validators = store.get_validators(header.validators_hash)
    return None if validators is None else LightBlock(header, commit, validators)


def serve_light_blocks(host: P2PHost, store: ChainStore) -> None:
    """Answer /myelin/light/1."""

    async def answer(body: bytes, _peer: str) -> bytes:
        request = decode(LightRequest, body, REQUEST_BYTES_MAX)
        return encode(LightResponse(find_light_block(store, request.height)))

    host.serve_requests(
        LIGHT_PROTOCOL,
        answer,
        max_request_bytes=REQUEST_BYTES_MAX,
        max_streams_per_peer=STREAMS_PER_PEER,
        timeout_s=TIMEOUT_S,
    )
