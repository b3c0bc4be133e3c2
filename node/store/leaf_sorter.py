"""Sorts the leaves of any state by their key hashes, on disk: memory does not grow with the state."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from consensus.state.page import hash_key, hash_value
from node.store.database import Database

_BATCH_ITEMS = 20_000


class LeafSorter:
    """A scratch database in a directory of its own, removed at the end. A context manager."""

    def __init__(self, directory: Path) -> None:
        """`directory` must be for this sorter alone: its content is removed first."""
        self._directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        self._db = Database(directory)
        self._batch: list[tuple[bytes, bytes | None]] = []

    def __enter__(self) -> LeafSorter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def add(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Items of the state, in any order, each key once."""
        for key, value in items:
            self._batch.append((hash_key(key), hash_value(value)))
            if len(self._batch) >= _BATCH_ITEMS:
                self._flush()

    def iterate(self) -> Iterator[tuple[bytes, bytes]]:
        """(key hash, value hash) of all items, rising."""
        self._flush()
        yield from self._db.iterate(b"")

    def _flush(self) -> None:
        self._db.write(self._batch)
        self._batch = []
