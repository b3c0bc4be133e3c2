"""A snapshot as files (storage.md): a manifest and chunks of sorted items, each named by its hash. No trust here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

from node.machine.files import write_synced
from node.store.records import PRIORITIES_BYTES_MAX
from proto_specs import limits
from proto_specs.codec import U32, U64, Max, decode, encode, record
from proto_specs.errors import DecodeError, MyelinError
from proto_specs.hashing import HASH_BYTES, Tag, hash_tagged
from proto_specs.types.chain import Commit, Header, ValidatorSet
from proto_specs.types.common import Hash32

SNAPSHOT_FORMAT = 3
MANIFEST_NAME = "manifest"
CHUNK_BYTES = 2 * limits.MIB
CHUNK_ITEMS_MAX = 32_768
KEY_BYTES_MAX = 4 * limits.KIB
VALUE_BYTES_MAX = limits.MIB

Progress = Callable[[str, int, int], None]
"""(the current activity, number done, number in all): called from time to time."""


class SnapshotError(MyelinError):
    """The snapshot is damaged, false or not for this chain, or there is no place for it. The message says which."""


@record
class SnapshotItem:
    """One item of the state."""

    key: Annotated[bytes, Max(KEY_BYTES_MAX)]
    value: Annotated[bytes, Max(VALUE_BYTES_MAX)]


@record
class SnapshotChunk:
    """Neighbouring items, sorted by key."""

    items: Annotated[tuple[SnapshotItem, ...], Max(CHUNK_ITEMS_MAX)]


@record
class SnapshotManifest:
    """The block of a snapshot, and the hash of every chunk. `deciders` is the set that decided the header's block;
    `priorities` are the proposer priorities of the next height, as the state has them.
    """

    format: U32
    genesis: Hash32
    header: Header
    commit: Commit
    deciders: ValidatorSet
    priorities: Annotated[bytes, Max(PRIORITIES_BYTES_MAX)]
    items: U64
    chunks: Annotated[tuple[Hash32, ...], Max(limits.LIST_ITEMS_MAX)]


assert CHUNK_BYTES + VALUE_BYTES_MAX + KEY_BYTES_MAX < limits.SNAPSHOT_PART_BYTES_MAX, "a chunk is one answer"
assert limits.LIST_ITEMS_MAX * 34 + limits.MIB < limits.SNAPSHOT_PART_BYTES_MAX, "and so is a manifest"


def get_chunk_path(directory: Path, index: int) -> Path:
    """The path of chunk number `index`."""
    return directory / f"{index:05}.chunk"


def hash_chunk(data: bytes) -> bytes:
    """What a manifest has of a chunk's bytes."""
    return hash_tagged(Tag.CHUNK, data)


def hash_manifest(encoded: bytes) -> bytes:
    """What a snapshot is known by among peers, and the checksum of its manifest's file."""
    return hash_tagged(Tag.SNAPSHOT_MANIFEST, encoded)


def save_manifest(directory: Path, manifest: SnapshotManifest) -> None:
    """Write the manifest with its hash, which detects changes even in parts that no header commits to."""
    encoded = encode(manifest)
    write_synced(directory / MANIFEST_NAME, encoded + hash_manifest(encoded))


def load_manifest(directory: Path) -> SnapshotManifest:
    """A snapshot's manifest, decoded but not verified. Raises SnapshotError."""
    path = directory / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SnapshotError(
            f"{directory} holds no snapshot: {MANIFEST_NAME} is missing; name what `snapshot export` wrote"
        ) from error
    encoded, checksum = data[:-HASH_BYTES], data[-HASH_BYTES:]
    try:
        found = decode(SnapshotManifest, encoded)
    except DecodeError as error:
        raise SnapshotError(f"{path} is damaged ({error}): export or fetch the snapshot again") from error
    if found.format != SNAPSHOT_FORMAT:
        raise SnapshotError(
            f"{path} has format {found.format}, this release reads {SNAPSHOT_FORMAT}: use the release that wrote it, "
            "or export or fetch the snapshot again"
        )
    if hash_manifest(encoded) != checksum:
        raise SnapshotError(f"{path} is damaged (its checksum differs): export or fetch the snapshot again")
    return found


def load_chunk(directory: Path, index: int, expected: bytes) -> SnapshotChunk:
    """A chunk whose bytes hash to `expected`. Raises SnapshotError."""
    path = get_chunk_path(directory, index)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SnapshotError(f"{path} is missing: export or fetch the snapshot again") from error
    if hash_chunk(data) != expected:
        raise SnapshotError(f"{path} is damaged: it does not hash to {expected.hex()}. Fetch it again")
    try:
        return decode(SnapshotChunk, data)
    except DecodeError as error:
        raise SnapshotError(f"{path} is no chunk ({error}): do not trust where it comes from") from error


def make_chunks(items: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, int]]:
    """(encoded chunk, its items) of a sorted state."""
    held: list[SnapshotItem] = []
    size = 0
    for key, value in items:
        held.append(SnapshotItem(key, value))
        size += len(key) + len(value) + 10
        if size >= CHUNK_BYTES or len(held) == CHUNK_ITEMS_MAX:
            yield encode(SnapshotChunk(tuple(held))), len(held)
            held, size = [], 0
    if held:
        yield encode(SnapshotChunk(tuple(held))), len(held)
