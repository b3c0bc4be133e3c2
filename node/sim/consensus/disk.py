"""The disk of a simulated node: log, signer's history and database in memory, and a crash at any of their writes.

A crash keeps or loses each write as a whole, except in the log, where it keeps any prefix of the unsynced bytes.
"""

from __future__ import annotations

import bisect
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from node.signer.signer import Lock, SignerError
from node.store.database import Database, Snapshot
from node.store.mark import Mark, Note


class Crashed(BaseException):
    """The machine stops here."""


@dataclass
class SimDisk:
    """All that survives of a node. `crash_in` counts down the writes to the next crash; None: no crash is planned."""

    random: random.Random
    log: bytes = b""
    history: str | None = None
    rows: dict[bytes, bytes] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)
    crash_in: int | None = None
    is_dead: bool = False
    writes: Counter[str] = field(default_factory=Counter)
    pending: bytearray = field(default_factory=bytearray)

    def write(self, kind: str, do: Callable[[], None]) -> None:
        """Make a durable write. Raises Crashed before or after it when the countdown ends."""
        if self.is_dead:
            raise Crashed
        self.writes[kind] += 1
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                if self.random.random() < 0.5:
                    do()
                self.stop()
                raise Crashed
        do()

    def stop(self) -> None:
        """Power off: a prefix of the log's unsynced bytes stays."""
        self.log += bytes(self.pending[: self.random.randrange(len(self.pending) + 1)])
        self.pending.clear()
        self.is_dead, self.crash_in = True, None

    def start(self) -> None:
        """Power on."""
        self.is_dead = False


class SimLog:
    """`LogFile` on a simulated disk."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk

    def append(self, data: bytes) -> None:
        """See LogFile."""
        if self._disk.is_dead:
            raise Crashed
        self._disk.pending += data

    def sync(self) -> None:
        """See LogFile."""
        self._disk.write("log sync", self._sync)

    def truncate(self) -> None:
        """See LogFile."""
        self._disk.write("log truncation", self._truncate)

    def close(self) -> None:
        """See LogFile."""

    def _sync(self) -> None:
        self._disk.log += bytes(self._disk.pending)
        self._disk.pending.clear()

    def _truncate(self) -> None:
        self._disk.log = b""
        self._disk.pending.clear()


class _Unlocked:
    def close(self) -> None:
        """Does nothing: no lock was held, since a simulated disk has a single node."""


class SimHistory:
    """`HistoryFile` on a simulated disk."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk

    def lock(self) -> Lock:
        """See HistoryFile."""
        return _Unlocked()

    def read(self) -> str:
        """See HistoryFile."""
        if self._disk.history is None:
            raise SignerError("the simulated history is missing")
        return self._disk.history

    def replace(self, text: str) -> None:
        """See HistoryFile."""

        def do() -> None:
            self._disk.history = text

        self._disk.write("signer history", do)

    def __str__(self) -> str:
        return "the simulated history"


class MemoryDatabase(Database):
    """The reads and batches of `Database` over a simulated disk's rows."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self.advise = lambda detail: f"the simulated database is damaged: {detail}"

    def get(self, key: bytes) -> bytes | None:
        """See Snapshot."""
        return self._disk.rows.get(key)

    def iterate(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See Snapshot."""
        rows = self._disk.rows
        for key in self.iterate_keys(prefix, start):
            yield key, rows[key]

    def iterate_keys(self, prefix: bytes, start: bytes) -> Iterator[bytes]:
        """See Snapshot."""
        keys = self._disk.keys
        found = []
        for at in range(bisect.bisect_left(keys, max(prefix, start)), len(keys)):
            if not keys[at].startswith(prefix):
                break
            found.append(keys[at])
        return iter(found)

    def find_first(self, prefix: bytes, start: bytes) -> tuple[bytes, bytes] | None:
        """See Snapshot."""
        keys = self._disk.keys
        at = bisect.bisect_left(keys, max(prefix, start))
        if at == len(keys) or not keys[at].startswith(prefix):
            return None
        return keys[at], self._disk.rows[keys[at]]

    def snapshot(self) -> Snapshot:
        """See Database."""
        copy = SimDisk(self._disk.random, rows=dict(self._disk.rows), keys=list(self._disk.keys))
        return MemoryDatabase(copy)

    def write(self, items: Iterable[tuple[bytes, bytes | None]]) -> None:
        """See Database."""
        batch = list(items)
        self._disk.write("block", lambda: self._apply(batch))

    def _apply(self, batch: list[tuple[bytes, bytes | None]]) -> None:
        rows, keys = self._disk.rows, self._disk.keys
        for key, value in batch:
            if value is None:
                if rows.pop(key, None) is not None:
                    del keys[bisect.bisect_left(keys, key)]
            else:
                if key not in rows:
                    bisect.insort(keys, key)
                rows[key] = value

    def compact(self, prefix: bytes) -> None:
        """See Database."""

    def close(self) -> None:
        """See Database."""


class _NoMark(Mark):
    def __init__(self) -> None:
        """Keeps nothing: a simulated disk loses no synced batch."""

    def add(self, height: int, block_hash: bytes) -> None:
        """See Mark."""

    def close(self) -> None:
        """See Mark."""


class SimBacking:
    """`Backing` on a simulated disk."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk

    def open_database(self, _path: Path) -> Database:
        """See Backing."""
        return MemoryDatabase(self._disk)

    def read_note(self, _path: Path) -> Note | None:
        """See Backing."""
        return None

    def open_mark(self, _path: Path, _height: int, _block_hash: bytes) -> Mark:
        """See Backing."""
        return _NoMark()
