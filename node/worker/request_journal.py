"""Which requests this worker has run, on disk before it signs anything of them, so that it runs none a second time.

A worker signs each slot (request, boundary, window, role) once while it runs a request, so it signs no slot twice as
long as it runs no request twice: one record per request is enough, and one sync. A request can be ordered again only
while its session is open, so a record is dropped when its session has expired. Two floors cover what no record tells
(an old one was dropped, or the file was lost or damaged): sessions that expire, and sessions that were opened, up to a
height are refused.

Records have one size, each with its checksum. The tail of a write that a crash cut short is dropped: nothing of it was
signed. Any other damage stops the worker with the command that repairs.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import IO

import trio

from node.client.chain_view import SessionEntry
from node.machine.files import lock_beside, write_synced
from node.worker.errors import JournalError
from node.worker.refusal import OrderRefused
from proto_specs.types.wire import FailureCode

LOG_SUFFIX = ".taken"
DAMAGED_SUFFIX = ".damaged"
COMPACT_RECORDS_MIN = 4096
"""The file is rewritten when it has this many records more than twice those left by the last rewrite."""

_BODY = struct.Struct(">B32sQ")
"""Kind, request (zeros for a floor), height."""
_CHECKSUM = struct.Struct(">I")
RECORD_BYTES = _BODY.size + _CHECKSUM.size

_TAKEN = 1
"""A request was taken; its session expires at this height."""
_OPENED_FLOOR = 2
"""No request of a session opened at this height or before is taken. The first record of every file."""
_EXPIRED_FLOOR = 3
"""No request of a session that expires at this height or before is taken: its record may have been dropped."""


class RequestJournal:
    """The journal of one worker key on one chain, locked against a second process."""

    def __init__(self, path: Path, opened_floor: int) -> None:
        """Read the journal; a new one refuses sessions up to block `opened_floor`. Raises JournalError, OSError."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._lock = _lock(path)
        try:
            if not path.exists():
                write_synced(path, _encode(_OPENED_FLOOR, bytes(32), opened_floor))
            self._load(_read(path))
            self._file = path.open("ab")
        except BaseException:
            self._lock.close()
            raise
        self._pending: list[bytes] = []
        self._turn = trio.Lock()
        self._is_broken = False

    def __len__(self) -> int:
        return len(self._taken)

    def check(self, request: bytes, session: SessionEntry) -> None:
        """Raises OrderRefused when the request was run here before, or may have been."""
        if request in self._taken:
            raise OrderRefused(FailureCode.BAD_ORDER, "the request was run here before: order it under a new number")
        if session.opened_height <= self._opened_floor or session.expiry_height <= self._expired_floor:
            raise OrderRefused(
                FailureCode.BAD_ORDER, "this worker does not know what it signed in this session: open a new one"
            )

    async def take(self, request: bytes, session: SessionEntry) -> None:
        """Record a request durably; concurrent requests share a sync. Raises OrderRefused, OSError.

        After an OSError no order is taken until the worker starts again, since the file's content is unknown.
        """
        self.check(request, session)
        self._taken[request] = session.expiry_height
        record = _encode(_TAKEN, request, session.expiry_height)
        self._pending.append(record)
        async with self._turn:
            if self._is_broken:
                raise OSError("an earlier write to the log of taken requests failed")
            if record not in self._pending:
                return  # who had the turn before has written it
            batch, self._pending = self._pending, []
            self._is_broken = True
            with trio.CancelScope(shield=True):  # others wait for this batch too
                await trio.to_thread.run_sync(self._append, b"".join(batch))
                if self._records >= self._compact_at:
                    await trio.to_thread.run_sync(self._compact, session.height)
            self._is_broken = False

    def close(self) -> None:
        """Release the lock."""
        self._file.close()
        self._lock.close()

    def _load(self, records: list[tuple[int, bytes, int]]) -> None:
        self._taken = {request: height for kind, request, height in records if kind == _TAKEN}
        self._opened_floor = max(height for kind, _, height in records if kind == _OPENED_FLOOR)
        self._expired_floor = max((height for kind, _, height in records if kind == _EXPIRED_FLOOR), default=0)
        self._records = len(records)
        self._compact_at = self._records + COMPACT_RECORDS_MIN

    def _append(self, batch: bytes) -> None:
        self._file.write(batch)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._records += len(batch) // RECORD_BYTES

    def _compact(self, height: int) -> None:
        """Rewrite the file without the requests of sessions that have expired by `height`."""
        floor = max(height, self._expired_floor)
        # Records still to be written are in `_pending` too: a duplicate record does no harm.
        left = {request: expiry for request, expiry in list(self._taken.items()) if expiry > floor}
        heads = [(_OPENED_FLOOR, bytes(32), self._opened_floor), (_EXPIRED_FLOOR, bytes(32), floor)]
        records = [*heads, *((_TAKEN, request, expiry) for request, expiry in left.items())]
        write_synced(self._path, b"".join(_encode(*one) for one in records))
        self._file.close()
        self._file = self._path.open("ab")
        self._expired_floor = floor
        for request in [one for one, expiry in list(self._taken.items()) if expiry <= floor]:
            del self._taken[request]
        self._records = len(records)
        self._compact_at = 2 * self._records + COMPACT_RECORDS_MIN


def get_log_path(directory: Path, genesis: bytes, worker: bytes) -> Path:
    """The path of a worker key's journal on a chain: floors are heights of one chain, and mean nothing on another."""
    return directory / f"{genesis.hex()[:16]}-{worker.hex()[:16]}{LOG_SUFFIX}"


def repair_logs(directory: Path) -> list[Path]:
    """Put damaged journals aside; returns the new names. A worker without its journal takes no order of older sessions.

    Raises JournalError when a worker runs on one of them.
    """
    moved = []
    for path in sorted(directory.glob(f"*{LOG_SUFFIX}")):
        with _lock(path):
            try:
                _read(path)
            except JournalError:
                moved.append(path.rename(path.with_suffix(LOG_SUFFIX + DAMAGED_SUFFIX)))
    return moved


def _encode(kind: int, request: bytes, height: int) -> bytes:
    body = _BODY.pack(kind, request, height)
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _read(path: Path) -> list[tuple[int, bytes, int]]:
    """All complete records; the rest of a write cut short is removed. Raises JournalError for any other damage."""
    data = path.read_bytes()
    records: list[tuple[int, bytes, int]] = []
    at = 0
    while at + RECORD_BYTES <= len(data):
        body = data[at : at + _BODY.size]
        if _CHECKSUM.unpack_from(data, at + _BODY.size)[0] != zlib.crc32(body):
            break
        records.append(_BODY.unpack(body))
        at += RECORD_BYTES
    is_headed = bool(records) and records[0][0] == _OPENED_FLOOR
    if not is_headed or not _is_torn(data[at:]):
        raise JournalError(
            f"{path} is damaged at byte {at} of {len(data)}: run `myelin worker repair`, after which the worker takes "
            "no order of a session that is open now, as it cannot know what it signed there"
        )
    if at < len(data):
        with path.open("r+b") as file:
            file.truncate(at)
            file.flush()
            os.fsync(file.fileno())
    return records


def _is_torn(tail: bytes) -> bool:
    """Whether an interrupted write explains a tail: too short for a record, or never filled from the checksum on."""
    return len(tail) < RECORD_BYTES or not any(tail[_BODY.size :])


def _lock(path: Path) -> IO[bytes]:
    try:
        return lock_beside(path)
    except BlockingIOError as error:
        raise JournalError(f"another worker runs on {path}: a worker key serves in one process at a time") from error
