"""Weights over the network: a unit's chunks, each known by its hash under the manifest's root (shards.md)."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from proto_specs import limits
from proto_specs.codec import U8, U16, U32, Max, record, variant
from proto_specs.hashing import HASH_BYTES
from proto_specs.types.common import Hash32

SHARD_PROTOCOL: Final = "/myelin/shard/1"
UNIT_CHUNKS_MAX: Final = limits.CHUNK_BYTES // HASH_BYTES
"""The leaves that fit an answer: enough for units of 32 GiB."""


@variant(1)
class AskLeaves:
    """The Merkle leaves of a unit's chunks, in order, 32 bytes each."""

    model: Hash32
    kind: U8
    index: U16


@variant(2)
class AskPiece:
    """A chunk of a unit: 1 MiB, the last chunk shorter."""

    model: Hash32
    kind: U8
    index: U16
    chunk: U32


ShardRequest: TypeAlias = AskLeaves | AskPiece


@record
class ShardPart:
    """The requested bytes; None when the node does not have them."""

    data: Annotated[bytes, Max(limits.CHUNK_BYTES)] | None
