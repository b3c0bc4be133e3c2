"""Makes snapshots of a running chain from time to time, keeps the newest, and serves their parts to peers."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import trio

from genesis.builder import Genesis
from node.chain.bus import BlockBus
from node.machine.rate import RateLimit
from node.p2p.host import P2PHost
from node.store.chain_store import ChainStore
from node.store.database import DatabaseError
from node.store.snapshot_export import export_snapshot
from node.store.snapshot_format import SnapshotError, SnapshotManifest, get_chunk_path, hash_manifest, load_manifest
from node.store.views import StateUnavailable
from proto_specs import limits
from proto_specs.codec import decode_as, encode
from proto_specs.types.chain import compute_block_hash
from proto_specs.types.snapshot_wire import (
    SNAPSHOT_PROTOCOL,
    AskChunk,
    AskManifest,
    SnapshotOffer,
    SnapshotOffers,
    SnapshotPart,
    SnapshotRequest,
)

KEPT = 2
"""Snapshots kept: a peer that has begun one still finds it when the next is made."""
REQUEST_BYTES_MAX = 64
STREAMS_PER_PEER = 4
TIMEOUT_S = 60.0
PEER_BYTES_PER_S, PEER_BURST_BYTES = 16 * limits.MIB, 64 * limits.MIB
"""Parts a second to one peer; a faster peer waits for its answers."""
_NAME = re.compile(r"\d{12}")

logger = logging.getLogger("myelin.snapshot")


@dataclass(frozen=True, slots=True)
class Held:
    """A complete snapshot on disk."""

    directory: Path
    manifest: SnapshotManifest
    encoded: bytes
    manifest_hash: bytes

    @property
    def offer(self) -> SnapshotOffer:
        """The offer sent to peers."""
        header = self.manifest.header
        return SnapshotOffer(header.height, compute_block_hash(header), self.manifest_hash, len(self.manifest.chunks))


class SnapshotCatalog:
    """The snapshots in one directory, each in a directory named by its height. `keep` of them stay."""

    def __init__(self, directory: Path, genesis: Genesis, keep: int = KEPT) -> None:
        """Unreadable snapshots are removed: they can be made again."""
        assert 1 <= keep <= limits.SNAPSHOT_OFFERS_MAX, "all are offered at once"
        self._directory = directory
        self._genesis = genesis
        self._keep = keep
        self._held: dict[bytes, Held] = {}
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if not self._add(path):
                shutil.rmtree(path, ignore_errors=True)
        self._let_go()

    @property
    def held(self) -> tuple[Held, ...]:
        """All snapshots, the newest first."""
        return tuple(sorted(self._held.values(), key=lambda one: -one.manifest.header.height))

    @property
    def newest_height(self) -> int:
        """The height of the newest snapshot; 0 for none."""
        return max((one.manifest.header.height for one in self._held.values()), default=0)

    def list_offers(self) -> SnapshotOffers:
        """The offers sent to peers."""
        return SnapshotOffers(tuple(one.offer for one in self.held))

    def find_part(self, request: AskManifest | AskChunk) -> bytes | None:
        """The requested bytes. Reads the disk: call it in a thread."""
        held = self._held.get(request.manifest_hash)
        if held is None:
            return None
        if isinstance(request, AskManifest):
            return held.encoded
        if request.index >= len(held.manifest.chunks):
            return None
        try:
            return get_chunk_path(held.directory, request.index).read_bytes()
        except FileNotFoundError:
            return None

    def make(self, database: Path, height: int) -> None:
        """Export the state after a block and remove the oldest snapshot. Takes long: call it in a thread.

        Raises SnapshotError, DatabaseError, StateUnavailable.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self._directory / f"{height:012}"
        export_snapshot(database, self._genesis, target, _ignore, height)
        self._add(target)
        self._let_go()

    def _add(self, path: Path) -> bool:
        if not _NAME.fullmatch(path.name):
            return False
        try:
            manifest = load_manifest(path)
        except SnapshotError:
            return False
        encoded = encode(manifest)
        manifest_hash = hash_manifest(encoded)
        if manifest.genesis != self._genesis.hash:
            return False
        self._held = {**self._held, manifest_hash: Held(path, manifest, encoded, manifest_hash)}
        return True

    def _let_go(self) -> None:
        held = self.held
        self._held = {one.manifest_hash: one for one in held[: self._keep]}
        for one in held[self._keep :]:
            shutil.rmtree(one.directory, ignore_errors=True)


def serve_snapshots(host: P2PHost, catalog: SnapshotCatalog) -> None:
    """Answer /myelin/snapshot/1."""

    rate = RateLimit(PEER_BYTES_PER_S, PEER_BURST_BYTES)

    async def answer(body: bytes, peer: str) -> bytes:
        request = decode_as(SnapshotRequest, body, REQUEST_BYTES_MAX)
        if isinstance(request, AskManifest | AskChunk):
            found = encode(SnapshotPart(await trio.to_thread.run_sync(catalog.find_part, request)))
        else:
            found = encode(catalog.list_offers())
        await trio.sleep(rate.take(peer, len(found), trio.current_time()))
        return found

    host.serve_requests(
        SNAPSHOT_PROTOCOL,
        answer,
        max_request_bytes=REQUEST_BYTES_MAX,
        max_streams_per_peer=STREAMS_PER_PEER,
        timeout_s=TIMEOUT_S,
    )


def find_due_height(head_height: int, newest_height: int, interval: int) -> int | None:
    """The height for a new snapshot: a multiple of the interval that has a child block and is newer than all held."""
    due = (head_height - 1) // interval * interval if head_height else 0
    return due if due > newest_height else None


async def make_snapshots(
    store: ChainStore, bus: BlockBus, catalog: SnapshotCatalog, database: Path, interval: int
) -> None:
    """Watch the chain and export every `interval` blocks, in a thread, one at a time, until cancelled.

    Cancellation waits for a running export: the database must not be closed under it.
    """
    assert interval > 0, "with none no snapshots are made"
    tried = 0
    while True:
        async with bus.subscribe() as blocks:
            async for _ in blocks:
                height = find_due_height(store.get_head().height, max(catalog.newest_height, tried), interval)
                if height is not None:
                    break
            else:
                continue
        tried = height
        try:
            await trio.to_thread.run_sync(catalog.make, database, height)
            logger.info("snapshot of block %d made", height)
        except (SnapshotError, DatabaseError, StateUnavailable, OSError) as error:
            logger.warning("no snapshot of block %d: %s", height, error)


def _ignore(what: str, done: int, total: int) -> None:
    """The progress callback of an export that no one watches."""
