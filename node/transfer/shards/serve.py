"""Answers /myelin/shard/1 from the shard store. A unit is hashed once before any of it is served."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from inference.errors import StoreError
from inference.model.store import ShardStore, compute_file_leaves, find_unit
from node.machine.rate import RateLimit
from node.p2p.host import P2PHost
from proto_specs import limits
from proto_specs.codec import decode_as, encode
from proto_specs.errors import DecodeError
from proto_specs.merkle import compute_root_of_leaves
from proto_specs.types.manifest import Unit, UnitKind
from proto_specs.types.shard_wire import SHARD_PROTOCOL, UNIT_CHUNKS_MAX, AskLeaves, ShardPart, ShardRequest

REQUEST_BYTES_MAX = 64
STREAMS_PER_PEER = 4
TIMEOUT_S = 120.0
"""The first request for a unit waits until the unit is hashed."""
PEER_BYTES_PER_S, PEER_BURST_BYTES = 64 * limits.MIB, 256 * limits.MIB
"""Chunks a second to one peer; a faster peer waits for its answers."""
UNITS_KNOWN_MAX = 1_024

logger = logging.getLogger("myelin.shards")


@dataclass(frozen=True, slots=True)
class _ServedUnit:
    """A hashed unit with its leaves; None when they differ from the manifest."""

    unit: Unit
    leaves: bytes | None


class ShardCatalog:
    """The served part of a store. The methods read the disk: call them in a thread, one at a time."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._known: dict[tuple[bytes, int, int], _ServedUnit] = {}

    def find_part(self, request: ShardRequest) -> bytes | None:
        """The requested bytes; None when they are not stored or do not hash to the manifest's root."""
        known = self._find(request.model, request.kind, request.index)
        if known is None or known.leaves is None or isinstance(request, AskLeaves):
            return None if known is None else known.leaves
        try:
            return self._store.read_chunk(request.model, known.unit, request.chunk)
        except (StoreError, OSError):
            return None

    def _find(self, model: bytes, kind: int, index: int) -> _ServedUnit | None:
        """The result is remembered, so that repeats cost nothing, and damaged weights are logged once."""
        key = (model, kind, index)
        if key in self._known:
            return self._known[key]
        try:
            unit = find_unit(self._store.load_manifest(model), UnitKind(kind), index)
            if not self._store.has_unit(model, unit):
                return None  # it may come
            leaves = compute_file_leaves(self._store.get_unit_path(model, unit))
        except (StoreError, OSError):
            return None
        if compute_root_of_leaves(leaves) != unit.root:
            logger.error("unit %s of model %s is damaged: `myelin model verify`", UnitKind(kind).name, model.hex()[:16])
            found = _ServedUnit(unit, None)
        else:
            found = _ServedUnit(unit, b"".join(leaves) if len(leaves) <= UNIT_CHUNKS_MAX else None)
        if len(self._known) >= UNITS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = found
        return found


def serve_shards(host: P2PHost, catalog: ShardCatalog) -> None:
    """Answer /myelin/shard/1 on a host."""
    rate, turns = RateLimit(PEER_BYTES_PER_S, PEER_BURST_BYTES), trio.CapacityLimiter(1)

    async def answer(body: bytes, peer: str) -> bytes:
        request = decode_as(ShardRequest, body, REQUEST_BYTES_MAX)
        if request.kind not in tuple(UnitKind):
            raise DecodeError(f"unknown kind of unit {request.kind}")
        found = encode(ShardPart(await trio.to_thread.run_sync(catalog.find_part, request, limiter=turns)))
        await trio.sleep(rate.take(peer, len(found), trio.current_time()))
        return found

    host.serve_requests(
        SHARD_PROTOCOL,
        answer,
        max_request_bytes=REQUEST_BYTES_MAX,
        max_streams_per_peer=STREAMS_PER_PEER,
        timeout_s=TIMEOUT_S,
    )
