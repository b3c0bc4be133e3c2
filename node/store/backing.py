"""The storage under a chain's store: LevelDB with its mark on disk, or memory where whole nodes are simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from node.store.database import Database
from node.store.mark import Mark, Note, read_note


class Backing(Protocol):
    """Opens the parts of a database at a path."""

    def open_database(self, path: Path) -> Database:
        """See Database."""

    def read_note(self, path: Path) -> Note | None:
        """The height that the database had reached, as noted beside it."""

    def open_mark(self, path: Path, height: int, block_hash: bytes) -> Mark:
        """Start noting heights."""


class LevelDb:
    """On disk."""

    def open_database(self, path: Path) -> Database:
        """See Database for what it raises."""
        return Database(path)

    def read_note(self, path: Path) -> Note | None:
        """Raises MarkDamaged, OSError."""
        return read_note(path)

    def open_mark(self, path: Path, height: int, block_hash: bytes) -> Mark:
        """Raises OSError."""
        return Mark(path, height, block_hash)


LEVELDB = LevelDb()
