"""The download directory of a snapshot: every file under its final name is complete, also after a kill."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from node.store.snapshot_format import (
    SnapshotError,
    SnapshotManifest,
    get_chunk_path,
    hash_chunk,
    hash_manifest,
    load_manifest,
    save_manifest,
)
from proto_specs.codec import encode


class PartialSnapshot:
    """One download's directory. Methods touch the disk: call them in a thread where that matters."""

    def __init__(self, directory: Path) -> None:
        """`directory` must be for downloads alone."""
        self.directory = directory

    def find_begun(self) -> SnapshotManifest | None:
        """The manifest of a begun download; an unreadable one counts as none."""
        try:
            return load_manifest(self.directory)
        except (SnapshotError, OSError):
            return None

    def begin(self, manifest: SnapshotManifest) -> set[int]:
        """Prepare for this snapshot, unless it was begun before; returns the chunks that are already there."""
        if self.find_begun() != manifest:
            self.remove()
            self.directory.mkdir(parents=True, mode=0o700)
            save_manifest(self.directory, manifest)
        return {index for index, expected in enumerate(manifest.chunks) if self._has(index, expected)}

    def save_chunk(self, index: int, data: bytes) -> None:
        """Keep a verified chunk."""
        path = get_chunk_path(self.directory, index)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _has(self, index: int, expected: bytes) -> bool:
        try:
            data = get_chunk_path(self.directory, index).read_bytes()
        except FileNotFoundError:
            return False
        return hash_chunk(data) == expected


def compute_manifest_hash(manifest: SnapshotManifest) -> bytes:
    """What a snapshot is known by among peers."""
    return hash_manifest(encode(manifest))
