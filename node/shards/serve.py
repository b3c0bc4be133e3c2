"""Answers /myelin/shard/1 from the shard store. A unit is hashed once before any of it is served."""

from __future__ import annotations

import logging

import trio

from inference.errors import StoreError
from inference.model.store import ShardStore, compute_file_leaves, find_unit
from node.p2p.host import P2PHost
from node.p2p.rate import RateLimit
from proto_specs import limits
from proto_specs.codec import decode_as, encode
from proto_specs.errors import DecodeError
from proto_specs.merkle import compute_root_of_leaves
from proto_specs.types.manifest import UnitKind
from proto_specs.types.shard_wire import SHARD_PROTOCOL, AskLeaves, ShardPart, ShardRequest

REQUEST_BYTES_MAX = 64
STREAMS_PER_PEER = 4
TIMEOUT_S = 120.0
"""The first request for a unit waits until it was hashed."""
PEER_BYTES_PER_S, PEER_BURST_BYTES = 64 * limits.MIB, 256 * limits.MIB
"""Of chunks to one peer; who asks more waits for its answers."""
UNITS_KNOWN_MAX = 1_024

logger = logging.getLogger("myelin.shards")


class ShardShelf:
    """What is served of a store. The methods read the disk: call them in a thread, one at a time."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._leaves: dict[tuple[bytes, int, int], bytes | None] = {}

    def find_part(self, request: ShardRequest) -> bytes | None:
        """The bytes asked for; None for what is not here, or does not hash to its manifest's root."""
        leaves = self._find_leaves(request.model, request.kind, request.index)
        if leaves is None or isinstance(request, AskLeaves):
            return leaves
        try:
            unit = find_unit(self._store.load_manifest(request.model), UnitKind(request.kind), request.index)
            return self._store.read_chunk(request.model, unit, request.chunk)
        except (StoreError, OSError):
            return None

    def _find_leaves(self, model: bytes, kind: int, index: int) -> bytes | None:
        """Remembered, so that asking again costs nothing; whoever has damaged weights is told so once, in the log."""
        key = (model, kind, index)
        if key in self._leaves:
            return self._leaves[key]
        try:
            unit = find_unit(self._store.load_manifest(model), UnitKind(kind), index)
            if not self._store.has_unit(model, unit):
                return None  # it may come
            leaves = compute_file_leaves(self._store.get_unit_path(model, unit))
        except (StoreError, OSError, ValueError):
            return None
        found = b"".join(leaves) if compute_root_of_leaves(leaves) == unit.root else None
        if found is None:
            logger.error("unit %s of model %s is damaged: `myelin model verify`", UnitKind(kind).name, model.hex()[:16])
        if len(self._leaves) >= UNITS_KNOWN_MAX:
            del self._leaves[next(iter(self._leaves))]
        self._leaves[key] = found
        return found


def serve_shards(host: P2PHost, shelf: ShardShelf) -> None:
    """Answer /myelin/shard/1 on a host."""
    rate, turns = RateLimit(PEER_BYTES_PER_S, PEER_BURST_BYTES), trio.CapacityLimiter(1)

    async def answer(body: bytes, peer: str) -> bytes:
        request = decode_as(ShardRequest, body, REQUEST_BYTES_MAX)
        if request.kind not in tuple(UnitKind):
            raise DecodeError(f"unknown kind of unit {request.kind}")
        found = encode(ShardPart(await trio.to_thread.run_sync(shelf.find_part, request, limiter=turns)))
        await trio.sleep(rate.take(peer, len(found), trio.current_time()))
        return found

    host.serve_requests(
        SHARD_PROTOCOL,
        answer,
        max_request_bytes=REQUEST_BYTES_MAX,
        max_streams_per_peer=STREAMS_PER_PEER,
        timeout_s=TIMEOUT_S,
    )
