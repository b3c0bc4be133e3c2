"""A unit's file during its download: chunks at their places, recognised by their hashes after a kill."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from proto_specs.limits import CHUNK_BYTES
from proto_specs.merkle import hash_leaf


class PartialUnit:
    """A file beside the unit's final place. Methods touch the disk: call them in a thread."""

    def __init__(self, path: Path, bytes_total: int) -> None:
        """`path` is the unit's final path."""
        self._path = path
        self._partial = path.with_name(f".{path.name}.fetching")
        self._bytes_total = bytes_total

    def begin(self, leaves: Sequence[bytes]) -> set[int]:
        """Create the file, or examine an existing one; returns the chunks that are already there."""
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        present = set[int]()
        if self._partial.exists():
            with self._partial.open("rb") as file:
                for at, leaf in enumerate(leaves):
                    if hash_leaf(file.read(self._measure(at))) == leaf:
                        present.add(at)
        with self._partial.open("ab") as file:
            file.truncate(self._bytes_total)
        return present

    def save_chunk(self, index: int, data: bytes) -> None:
        """Keep a verified chunk."""
        assert len(data) == self._measure(index), "its hash is the manifest's"
        with self._partial.open("r+b") as file:
            file.seek(index * CHUNK_BYTES)
            file.write(data)

    def finish(self) -> None:
        """Turn the complete file into the unit."""
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.replace(self._path)

    def _measure(self, index: int) -> int:
        return min(CHUNK_BYTES, self._bytes_total - index * CHUNK_BYTES)
