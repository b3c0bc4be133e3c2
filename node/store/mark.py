"""Notes the height a database has reached beside LevelDB, so that a database that lost data is noticed.

LevelDB takes a truncated log or manifest for an unfinished one, forgets the rest, and deletes the tables that its
manifest does not name. So each block's height is noted after the block is synced, with the manifest's length. A note is
never ahead of the database; after a crash it may lie behind.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from node.machine.files import write_synced
from proto_specs.errors import MyelinError

MARK_NAME = "MARK"
SYNC_BLOCKS = 32
"""Notes synced together: a killed process loses none of them, a stopped machine at most these."""
NOTES_MAX = 16_384
"""The file starts anew at about a megabyte."""
_NOTE = struct.Struct(">Q32sQQI")
_CRC = struct.Struct(">I")
NOTE_BYTES = _NOTE.size + _CRC.size
_MANIFEST = "MANIFEST-"


class MarkDamaged(MyelinError):
    """The notes are unreadable, or the database is not what they say. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Note:
    """The head, and LevelDB's manifest: its number (0: unknown), a length it had, and the CRC32 of that prefix."""

    height: int
    block_hash: bytes
    manifest: int
    manifest_bytes: int
    manifest_crc: int

    def encode(self) -> bytes:
        """60 bytes and their CRC32."""
        body = _NOTE.pack(self.height, self.block_hash, self.manifest, self.manifest_bytes, self.manifest_crc)
        return body + _CRC.pack(zlib.crc32(body))


class Mark:
    """The notes of one open database. `check_manifest` before LevelDB opens it."""

    def __init__(self, database: Path, height: int, block_hash: bytes) -> None:
        """Start anew with the current head, synced."""
        self._path = database / MARK_NAME
        manifest = _find_manifest(database)
        self._manifest = None if manifest is None else database / f"{_MANIFEST}{manifest:06}"
        self._note = Note(height, block_hash, manifest or 0, 0, 0)
        self._follow_manifest()
        self._begin()

    def add(self, height: int, block_hash: bytes) -> None:
        """Note a block that is synced. Raises OSError when the disk fails."""
        self._note = replace(self._note, height=height, block_hash=block_hash)
        grew = self._follow_manifest()
        if self._count >= NOTES_MAX:
            self._begin()
            return
        self._count += 1
        with self._path.open("ab", buffering=0) as file:
            file.write(self._note.encode())
            if grew or not self._count % SYNC_BLOCKS:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Write the last note, with the whole manifest, synced. Close LevelDB afterwards."""
        self._follow_manifest()
        self._begin()

    def _begin(self) -> None:
        write_synced(self._path, self._note.encode())
        self._count = 1

    def _follow_manifest(self) -> bool:
        """Update the note to the manifest, synced, so that no note claims more than a stopped machine keeps."""
        if self._manifest is None or self._manifest.stat().st_size == self._note.manifest_bytes:
            return False
        with self._manifest.open("rb") as file:
            file.seek(self._note.manifest_bytes)
            data = file.read()
            os.fsync(file.fileno())
        self._note = replace(
            self._note,
            manifest_bytes=self._note.manifest_bytes + len(data),
            manifest_crc=zlib.crc32(data, self._note.manifest_crc),
        )
        return True


def read_note(database: Path) -> Note | None:
    """The newest complete note; None when there is no mark. Raises MarkDamaged, OSError."""
    try:
        data = (database / MARK_NAME).read_bytes()
    except FileNotFoundError:
        return None
    for at in range(len(data) // NOTE_BYTES * NOTE_BYTES - NOTE_BYTES, -1, -NOTE_BYTES):
        body, crc = data[at : at + _NOTE.size], data[at + _NOTE.size : at + NOTE_BYTES]
        if zlib.crc32(body) == _CRC.unpack(crc)[0]:
            return Note(*_NOTE.unpack(body))
    raise MarkDamaged(f"{MARK_NAME} is unreadable")


def check_manifest(database: Path, note: Note) -> None:
    """Requires that the manifest has everything it had. Changes nothing. Raises MarkDamaged, OSError."""
    if not note.manifest:
        return
    found = _find_manifest(database)
    if found is None or found < note.manifest:
        raise MarkDamaged(f"CURRENT does not name {_MANIFEST}{note.manifest:06} or a newer one")
    if found > note.manifest:
        return
    try:
        data = (database / f"{_MANIFEST}{found:06}").read_bytes()
    except FileNotFoundError as error:
        raise MarkDamaged(f"{_MANIFEST}{found:06} is missing") from error
    if zlib.crc32(data[: note.manifest_bytes]) != note.manifest_crc or len(data) < note.manifest_bytes:
        raise MarkDamaged(f"{_MANIFEST}{found:06} is not what it was, and the tables it named would be deleted")


def forget_manifest(database: Path) -> None:
    """Keeps the height alone after a repair, which writes a new manifest. Unreadable notes are removed."""
    try:
        note = read_note(database)
    except MarkDamaged:
        (database / MARK_NAME).unlink()
        return
    if note is not None:
        write_synced(database / MARK_NAME, replace(note, manifest=0, manifest_bytes=0, manifest_crc=0).encode())


def _find_manifest(database: Path) -> int | None:
    """The number of the manifest in use; None where `CURRENT` names none."""
    try:
        name = (database / "CURRENT").read_bytes().rstrip(b"\n")
        return int(name.removeprefix(_MANIFEST.encode())) if name.startswith(_MANIFEST.encode()) else None
    except (FileNotFoundError, ValueError):
        return None
