"""Providers of a real chain's snapshots, in memory: honest ones, and one class for each way of being bad."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import trio

from consensus.light.verify import Handover
from node.light.errors import SourceLost
from node.p2p.errors import FrameTooLarge, PeerUnreachable, RequestTimedOut
from node.store.light_blocks import find_light_block
from node.store.snapshot_format import SnapshotManifest
from node.sync.partial import compute_manifest_hash
from node.sync.server import SnapshotCatalog
from proto_specs.codec import decode_as, encode
from proto_specs.types.gossip import LightBlock
from proto_specs.types.snapshot_wire import (
    AskChunk,
    AskManifest,
    AskOffers,
    SnapshotOffers,
    SnapshotPart,
    SnapshotRequest,
)
from tests.unit.node.world import World


class Provider:
    """Honest: a full node with a catalog."""

    def __init__(self, world: World, catalog: SnapshotCatalog) -> None:
        self.world = world
        self.catalog = catalog
        self.chunks_served = 0
        self.name = ""

    async def ask(self, asked: SnapshotRequest, timeout_s: float) -> bytes:
        await trio.lowlevel.checkpoint()
        request = decode_as(SnapshotRequest, encode(asked, SnapshotRequest))
        if isinstance(request, AskOffers):
            return encode(self.list_offers())
        if isinstance(request, AskManifest):
            return encode(SnapshotPart(self.find_manifest(request)))
        data = await self.find_chunk(request, timeout_s)
        self.chunks_served += 1
        return encode(SnapshotPart(data))

    def list_offers(self) -> SnapshotOffers:
        return self.catalog.list_offers()

    def find_manifest(self, asked: AskManifest) -> bytes | None:
        return self.catalog.find_part(asked)

    async def find_chunk(self, asked: AskChunk, timeout_s: float) -> bytes | None:
        return self.catalog.find_part(asked)

    async def get_block(self, height: int) -> LightBlock | None:
        return find_light_block(self.world.store, height)

    async def get_handover(self, height: int) -> Handover | None:
        return None


class WrongChunks(Provider):
    """Serves other bytes."""

    async def find_chunk(self, asked: AskChunk, timeout_s: float) -> bytes | None:
        return b"wrong"


class EndlessChunks(Provider):
    """Announces more bytes than an answer may have: the request ends there (node/p2p/request.py)."""

    async def find_chunk(self, asked: AskChunk, timeout_s: float) -> bytes | None:
        raise FrameTooLarge("body of 2**60 bytes announced")


class Staller(Provider):
    """Keeps the connection and sends nothing."""

    async def find_chunk(self, asked: AskChunk, timeout_s: float) -> bytes | None:
        await trio.sleep(timeout_s)
        raise RequestTimedOut(f"no answer in {timeout_s} s")


class Vanishing(Provider):
    """Gone for good after three chunks."""

    async def ask(self, asked: SnapshotRequest, timeout_s: float) -> bytes:
        if self.chunks_served >= 3:
            raise PeerUnreachable("gone")
        return await super().ask(asked, timeout_s)

    async def get_block(self, height: int) -> LightBlock | None:
        raise SourceLost("gone")


class LyingManifest(Provider):
    """Offers a manifest of its own making: `change` of the true one."""

    def change(self, manifest: SnapshotManifest) -> SnapshotManifest:
        """A false hash of the first chunk."""
        return dataclasses.replace(manifest, chunks=(bytes(32), *manifest.chunks[1:]))

    @property
    def manifest(self) -> SnapshotManifest:
        (held, *_) = self.catalog.held
        return self.change(held.manifest)

    def list_offers(self) -> SnapshotOffers:
        (true, *_) = super().list_offers().offers
        return SnapshotOffers((dataclasses.replace(true, manifest_hash=compute_manifest_hash(self.manifest)),))

    def find_manifest(self, asked: AskManifest) -> bytes | None:
        return encode(self.manifest)

    async def find_chunk(self, asked: AskChunk, timeout_s: float) -> bytes | None:
        (held, *_) = self.catalog.held
        return self.catalog.find_part(AskChunk(held.manifest_hash, asked.index))


class LyingPriorities(LyingManifest):
    """All chunks are there, and the import refuses what no header commits to."""

    def change(self, manifest: SnapshotManifest) -> SnapshotManifest:
        return dataclasses.replace(manifest, priorities=b"1")


class OtherBlock(Provider):
    """Offers a snapshot of a block that is not the chain's, with ever another manifest."""

    offered = 0

    def list_offers(self) -> SnapshotOffers:
        self.offered += 1
        (true, *_) = super().list_offers().offers
        name = self.offered.to_bytes(32, "big")
        return SnapshotOffers((dataclasses.replace(true, block_hash=bytes(32), manifest_hash=name),))


class Dreamer(OtherBlock):
    """Offers a snapshot of a height that is not there yet."""

    def list_offers(self) -> SnapshotOffers:
        (other,) = super().list_offers().offers
        return SnapshotOffers((dataclasses.replace(other, height=10**9),))


class Network:
    """SnapshotNetwork of such providers."""

    def __init__(self, *providers: Provider) -> None:
        self.providers = {f"{at}-{type(one).__name__}": one for at, one in enumerate(providers)}
        for name, one in self.providers.items():
            one.name = name
        self.penalised: dict[str, str] = {}

    def list_peers(self) -> Sequence[str]:
        return list(self.providers)

    async def ask(self, peer: str, asked: SnapshotRequest, timeout_s: float) -> bytes:
        return await self.providers[peer].ask(asked, timeout_s)

    def make_source(self, peer: str) -> Provider:
        return self.providers[peer]

    def penalise(self, peer: str, reason: str) -> None:
        self.penalised[peer] = reason


def make_catalog(world: World, directory: Path, *heights: int) -> SnapshotCatalog:
    """A node's catalog with snapshots of these heights."""
    catalog = SnapshotCatalog(directory, world.genesis)
    for height in heights:
        catalog.make(world.path, height)
    return catalog
