"""The consensus write-ahead log: records with a head and a payload, appended before they take effect.

A crash may tear the last record. It is dropped: nothing had acted on it. A crash cannot damage earlier bytes, so the
log with such damage refuses to be read and names the repair command.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Protocol

from node.machine.files import sync_directory
from proto_specs.errors import MyelinError

RECORD_BYTES_MAX = 16 << 20
_HEAD = struct.Struct(">III")
"""Payload length, CRC32 of the payload, and CRC32 of these two, big-endian.

An intact head tells where its record ends, so that bytes that a stranger chose (payloads hold blocks) are never taken
for records inside a torn record.
"""


class WalDamaged(MyelinError):
    """A hole in the middle of the log. The message names the repair command."""


class LogFile(Protocol):
    """A file that only grows at its end, or is emptied."""

    def append(self, data: bytes) -> None:
        """Add bytes. After a crash any prefix of the unsynced bytes may be there."""

    def sync(self) -> None:
        """Put everything appended on disk before returning."""

    def truncate(self) -> None:
        """Empty the file."""

    def close(self) -> None:
        """Release the file."""


class DiskLog:
    """A log file on disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        self.file = path.open("ab")
        if is_new:
            sync_directory(path.parent)

    def append(self, data: bytes) -> None:
        """See LogFile."""
        self.file.write(data)

    def sync(self) -> None:
        """See LogFile."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def truncate(self) -> None:
        """See LogFile."""
        self.file.truncate(0)

    def close(self) -> None:
        """See LogFile."""
        self.file.close()


class Wal:
    """A log open for appending. Call `read_wal` before opening it."""

    def __init__(self, file: Path | LogFile) -> None:
        self._log: LogFile = DiskLog(file) if isinstance(file, Path) else file
        self._is_synced = True

    def append(self, payload: bytes) -> None:
        """Add a record. It is safe after the next `sync`."""
        assert len(payload) <= RECORD_BYTES_MAX, "inputs are bounded by the protocol"
        self._log.append(_pack_head(payload) + payload)
        self._is_synced = False

    def sync(self) -> None:
        """Put everything appended on disk before returning."""
        if self._is_synced:
            return
        self._log.sync()
        self._is_synced = True

    def truncate(self) -> None:
        """Empty the log: its height is finalized."""
        self._log.truncate()
        self._is_synced = False

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._log.close()


def read_wal(path: Path) -> list[bytes]:
    """All whole records; a torn last record is cut off the file. Raises WalDamaged for a hole before the end."""
    if not path.exists():
        return []
    data = path.read_bytes()
    records, end = parse_wal(data, str(path))
    if end < len(data):
        _cut(path, end)
    return records


def parse_wal(data: bytes, name: str) -> tuple[list[bytes], int]:
    """The whole records of a log's bytes, and the end of the last; the rest is torn. Raises WalDamaged for a hole."""
    records, end = _scan(data)
    if end < len(data) and _has_record_after(data, end):
        raise WalDamaged(
            f"{name} is damaged at byte {end} of {len(data)}: run `myelin wal repair`, which keeps the records "
            "before the damage; the signer's own history still prevents double-signing"
        )
    return records, end


def repair_wal(path: Path) -> int:
    """Keep the records before the first damage and drop the rest; returns the number of bytes dropped."""
    data = path.read_bytes()
    _, end = _scan(data)
    _cut(path, end)
    return len(data) - end


def _scan(data: bytes) -> tuple[list[bytes], int]:
    """The whole records from the start, and the end of the last."""
    records: list[bytes] = []
    at = 0
    while (found := _read_at(data, at)) is not None:
        records.append(found)
        at += _HEAD.size + len(found)
    return records, at


def _pack_head(payload: bytes) -> bytes:
    length, crc = len(payload), zlib.crc32(payload)
    return _HEAD.pack(length, crc, _compute_head_crc(length, crc))


def _compute_head_crc(length: int, crc: int) -> int:
    return zlib.crc32(struct.pack(">II", length, crc))


def _read_head(data: bytes, at: int) -> tuple[int, int] | None:
    """(length, CRC32) of the payload, from an intact head; None without one."""
    if at + _HEAD.size > len(data):
        return None
    length, crc, head_crc = _HEAD.unpack_from(data, at)
    if not 0 < length <= RECORD_BYTES_MAX or head_crc != _compute_head_crc(length, crc):
        return None
    return length, crc


def _read_at(data: bytes, at: int) -> bytes | None:
    head = _read_head(data, at)
    if head is None:
        return None
    length, crc = head
    payload = data[at + _HEAD.size : at + _HEAD.size + length]
    if len(payload) != length or zlib.crc32(payload) != crc:
        return None
    return payload


def _has_record_after(data: bytes, damage: int) -> bool:
    """Whether a whole record follows the damage, which is then a hole and not a torn tail.

    A damaged payload behind an intact head is skipped, whatever it holds. Zeros that a file system left in place of the
    tail form no head, so they are skipped at once.
    """
    head = _read_head(data, damage)
    first = damage + 1 if head is None else damage + _HEAD.size + head[0]
    last = len(data.rstrip(b"\0"))
    return any(_read_at(data, at) is not None for at in range(first, last))


def _cut(path: Path, end: int) -> None:
    with path.open("r+b") as file:
        file.truncate(end)
        file.flush()
        os.fsync(file.fileno())
