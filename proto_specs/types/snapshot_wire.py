"""Snapshots over the network: a node's offers, and the parts that peers ask for (snapshots.md)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from proto_specs import limits
from proto_specs.codec import U32, U64, Max, record, variant
from proto_specs.types.common import Hash32
from proto_specs.types.gossip import SNAPSHOT_PROTOCOL

__all__ = [
    "SNAPSHOT_PROTOCOL",
    "AskChunk",
    "AskManifest",
    "AskOffers",
    "SnapshotOffer",
    "SnapshotOffers",
    "SnapshotPart",
    "SnapshotRequest",
]


@variant(1)
class AskOffers:
    """Ask which snapshots the node has."""


@variant(2)
class AskManifest:
    """The manifest with this hash."""

    manifest_hash: Hash32


@variant(3)
class AskChunk:
    """A chunk, by its place in a manifest."""

    manifest_hash: Hash32
    index: U32


SnapshotRequest: TypeAlias = AskOffers | AskManifest | AskChunk


@record
class SnapshotOffer:
    """A whole snapshot: of the state after this block. The hash is H(SNAPSHOT_MANIFEST, manifest)."""

    height: U64
    block_hash: Hash32
    manifest_hash: Hash32
    chunks: U32


@record
class SnapshotOffers:
    """The node's snapshots, the newest first."""

    offers: Annotated[tuple[SnapshotOffer, ...], Max(limits.SNAPSHOT_OFFERS_MAX)]


@record
class SnapshotPart:
    """The bytes of a manifest or a chunk; None when the node does not have them."""

    data: Annotated[bytes, Max(limits.SNAPSHOT_PART_BYTES_MAX)] | None
