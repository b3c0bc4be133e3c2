"""The index of subjects in a database: what each block adds to it, and how it is read. Rows: subject_index.py."""

from __future__ import annotations

from collections.abc import Iterator

from node.store.columns import Column
from node.store.database import Database, DatabaseDamaged
from node.store.history import Row
from node.store.records import BlockReceipts, FinalizedBlock, encode_height
from node.store.subject_index import Mention, make_key, make_rows, read_key, read_places
from node.store.views import INDEX_NAME

_FROM_KEY = Column.META.value + INDEX_NAME
_HEIGHT_BYTES = 8


class SubjectIndex:
    """Of one open database. `start` is the lowest height that was indexed, as all later ones were; None without one."""

    def __init__(self, database: Database, *, is_kept: bool) -> None:
        """Raises DatabaseDamaged."""
        self._db = database
        self._is_kept = is_kept
        found = database.get(_FROM_KEY)
        if found is not None and len(found) != _HEIGHT_BYTES:
            raise DatabaseDamaged(database.advise(f"{INDEX_NAME.decode()} is no height"))
        self.start = None if found is None else int.from_bytes(found, "big")

    def make_batch(self, done: FinalizedBlock) -> Iterator[Row]:
        """The rows of a new block. One that is not indexed makes a gap: an index begins anew behind it."""
        if self._is_kept:
            if self.start is None:
                self.start = done.head.height
                yield _FROM_KEY, encode_height(done.head.height)
            yield from make_rows(done.block, BlockReceipts(done.executed.receipts, done.executed.events))
        elif self.start is not None:
            self.start = None
            yield _FROM_KEY, None

    def list_places(self, subject: bytes, below: int, oldest_body: int) -> Iterator[tuple[int, list[Mention]]]:
        """(height, where its block names the subject), downwards from below a height to the oldest body."""
        if self.start is None or not below:
            return
        prefix = Column.SUBJECT.value + subject
        for key, row in self._db.snapshot().iterate(prefix, make_key(subject, below - 1)):
            height = read_key(key)[1]
            if height < max(self.start, oldest_body):
                return
            yield height, read_places(row)
