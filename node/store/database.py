"""LevelDB behind four verbs: get, iterate, write (one synced batch), close. Errors say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import plyvel

from node.store.mark import MarkDamaged, check_manifest, forget_manifest, read_note
from proto_specs.errors import MyelinError

WRITE_BUFFER_BYTES = 4 << 20
CACHE_BYTES = 32 << 20
OPEN_FILES_MAX = 74
"""64 tables of 2 MB and LevelDB's other files: the smallest limit it accepts. LevelDB maps every open table, and read
pages count as resident; reopening a table costs less than can be measured (benchmarks/README.md)."""
TABLE_BLOCK_BYTES = 1 << 10
"""Bytes of one read. Most data are hashes and signatures: nothing to compress, and no neighbours are wanted."""
_LAST_KEY = b"\xff"
"""Above every key: columns begin with letters."""
_UNREADABLE = (plyvel.CorruptionError, plyvel.IOError)


class DatabaseError(MyelinError):
    """The database cannot be used as it is. The message names the command that helps."""


class DatabaseLocked(DatabaseError):
    """Another process has it open."""


class DatabaseDamaged(DatabaseError):
    """Bytes on disk are not those that were written."""


class DatabaseForbidden(DatabaseError):
    """The operating system denies this process access to the files. They are not damaged."""


_FORBIDDEN = ("permission denied", "operation not permitted", "read-only file system")
_SHORT = {
    "no space left": "the disk is full: make room and start again",
    "quota exceeded": "the disk quota is used up: make room and start again",
    "too many open files": "too many files are open: raise the limit (`ulimit -n`) and start again",
}


class Snapshot:
    """Reads of one moment. Any thread may read."""

    def __init__(self, source: Any, advise: Callable[[str], str]) -> None:
        """`source` is a plyvel.DB or a snapshot of one; `advise` turns a fault into an error's text."""
        self._db = source
        self.advise = advise

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`. Raises DatabaseDamaged."""
        try:
            found: bytes | None = self._db.get(key, verify_checksums=True)
        except _UNREADABLE as error:
            raise _find_cause(error) or DatabaseDamaged(self.advise(f"key {key.hex()}: {error}")) from error
        return found

    def iterate(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """(key, value) under `prefix` from `start` on, in order. Raises DatabaseDamaged."""
        try:
            with self._db.iterator(
                prefix=None,
                start=max(prefix, start),
                stop=_next_prefix(prefix),
                verify_checksums=True,
                fill_cache=False,
            ) as found:
                yield from found
        except _UNREADABLE as error:
            raise _find_cause(error) or DatabaseDamaged(self.advise(f"under {prefix.hex()}: {error}")) from error

    def iterate_keys(self, prefix: bytes, start: bytes) -> Iterator[bytes]:
        """As `iterate`, without the values."""
        try:
            with self._db.iterator(
                start=max(prefix, start),
                stop=_next_prefix(prefix),
                include_value=False,
                verify_checksums=True,
                fill_cache=False,
            ) as found:
                yield from found
        except _UNREADABLE as error:
            raise _find_cause(error) or DatabaseDamaged(self.advise(f"under {prefix.hex()}: {error}")) from error

    def find_first(self, prefix: bytes, start: bytes) -> tuple[bytes, bytes] | None:
        """The first (key, value) under `prefix` from `start` on. Raises DatabaseDamaged."""
        return next(self.iterate(prefix, start), None)


class Database(Snapshot):
    """One LevelDB, read as of now. Reads may come from any thread; writes from one at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises DatabaseLocked, DatabaseForbidden, DatabaseDamaged, DatabaseError."""
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._check_files()
            opened = _open(path, create_if_missing=True)
        except (plyvel.Error, OSError) as error:
            raise self._name_error(error) from error
        super().__init__(opened, self._advise_repair)

    def _check_files(self) -> None:
        """Detects a database that LevelDB would take for new or unfinished, and whose tables it would delete."""
        if not (self._path / "CURRENT").exists() and any(self._path.glob("*.ldb")):
            raise DatabaseDamaged(self._advise_repair("CURRENT is missing"))
        try:
            note = read_note(self._path)
            if note is not None:
                check_manifest(self._path, note)
        except MarkDamaged as error:
            raise DatabaseDamaged(self._advise_repair(str(error))) from error

    def snapshot(self) -> Snapshot:
        """A reader of this moment; later writes do not change it."""
        return Snapshot(self._db.snapshot(), self._advise_repair)

    def write(self, items: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write all (None deletes) or nothing, and sync before returning. Raises DatabaseError when the disk fails."""
        # transaction=True: plyvel otherwise writes what it has when `items` raises halfway.
        try:
            with self._db.write_batch(sync=True, transaction=True) as batch:
                for key, value in items:
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.put(key, value)
        except plyvel.CorruptionError as error:
            raise DatabaseDamaged(self.advise(str(error))) from error
        except plyvel.IOError as error:
            raise _find_cause(error) or DatabaseError(
                f"{self._path} cannot be written: {error}; free space or repair its permissions"
            ) from error

    def compact(self, prefix: bytes) -> None:
        """Return the disk space deleted under `prefix`. Takes as long as copying the remaining rows; any thread."""
        self._db.compact_range(start=prefix, stop=_next_prefix(prefix))

    def close(self) -> None:
        """Release the lock."""
        self._db.close()

    def _name_error(self, error: Exception) -> DatabaseError:
        """The reason why the database does not open."""
        cause = _find_cause(error)
        if cause is not None:
            return cause
        if isinstance(error, plyvel.IOError) and "lock" in str(error).lower():
            return DatabaseLocked(f"{self._path} is open in another process: stop that node first")
        return DatabaseDamaged(self._advise_repair(str(error)))

    def _advise_repair(self, detail: str) -> str:
        return (
            f"the database {self._path} is damaged ({detail}). Run `myelin db repair`; "
            "what cannot be repaired has to be synced again from other nodes"
        )


def repair_database(path: Path) -> None:
    """LevelDB's own repair: keeps every readable record. Run it on a stopped node. Raises DatabaseError.

    It makes a table of each log, in the order of the directory, and a look-up believes the table that was made last,
    whatever its records' age. So all tables are merged afterwards, which goes by age.
    """
    try:
        plyvel.repair_db(str(path), paranoid_checks=True)
        with closing(_open(path, create_if_missing=False)) as repaired:
            repaired.compact_range(start=b"", stop=_LAST_KEY)
        forget_manifest(path)
    except (plyvel.Error, OSError) as error:
        raise _find_cause(error) or DatabaseError(
            f"{path} cannot be repaired: {error}; fill a new directory from a snapshot or from peers"
        ) from error


def _open(path: Path, *, create_if_missing: bool) -> Any:
    return plyvel.DB(
        str(path),
        create_if_missing=create_if_missing,
        paranoid_checks=True,
        write_buffer_size=WRITE_BUFFER_BYTES,
        lru_cache_size=CACHE_BYTES,
        block_size=TABLE_BLOCK_BYTES,
        compression=None,
        max_open_files=OPEN_FILES_MAX,
    )


def _find_cause(error: Exception) -> DatabaseError | None:
    """The operating system's refusal, if that is the reason and not the files' content."""
    text = str(error)
    if any(one in text.lower() for one in _FORBIDDEN):
        return DatabaseForbidden(
            f"the database may not be read or written ({text}). It is not damaged: run as the user that owns the "
            "node's directory, or give it back to this one (`chown -R`, and a file system that is not read-only)"
        )
    advice = next((advice for reason, advice in _SHORT.items() if reason in text.lower()), None)
    return None if advice is None else DatabaseError(f"the database cannot be used ({text}): {advice}")


def _next_prefix(prefix: bytes) -> bytes | None:
    """The first key after everything under `prefix`."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] != 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return None
