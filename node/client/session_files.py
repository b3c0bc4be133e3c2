"""Open sessions on disk, so that no crash loses an escrow: a file from before the opening until the closing.

A file is of mode 0600 and holds the session's key. It is locked by the process that uses the session, so that no two
ever share one: a file that is not locked was left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from node.client.errors import NonceHeld
from node.machine.files import PARTIAL_SUFFIX, sync_directory
from proto_specs.errors import MyelinError

SUFFIX: Final = ".session"
FILE_BYTES_MAX: Final = 4096
_SHOWN_BYTES: Final = 8


class SessionFileDamaged(MyelinError):
    """A session's file cannot be read. The message names it."""


class SessionTaken(NonceHeld):
    """Another process of the account holds the session. The message names it."""


class SessionUnwritable(MyelinError):
    """A session's file cannot be written, so no session is opened. The message names it."""


@dataclass(frozen=True, slots=True)
class SessionNote:
    """What is kept of a session. Up to block `rest_height` its opening may come into a block.

    `is_ended`: it takes no more orders and closes by itself when the last one settles, by `rest_height` as a rule.
    """

    session: bytes
    seed: bytes
    model: bytes
    rest_height: int
    is_ended: bool = False


class KeptSession:
    """A session's file, held by this process until `release` or `delete`."""

    def __init__(self, path: Path, handle: int, note: SessionNote) -> None:
        self.note = note
        self._path = path
        self._handle = handle

    def delete(self) -> None:
        """Remove the file: the session is closed."""
        self._path.unlink(missing_ok=True)
        self.release()
        with contextlib.suppress(OSError):
            self._path.parent.rmdir()  # unless it holds others

    def end(self, rest_height: int) -> None:
        """Release it with a note that the session closes by itself."""
        data = _pack(replace(self.note, rest_height=rest_height, is_ended=True))
        os.pwrite(self._handle, data, 0)
        os.ftruncate(self._handle, len(data))
        os.fsync(self._handle)
        self.release()

    def release(self) -> None:
        """Leave the file for whoever closes the session later."""
        os.close(self._handle)


class SessionFiles:
    """The directory of one account on one chain, under a directory for all of them."""

    def __init__(self, base: Path, genesis: bytes, account: bytes) -> None:
        self.directory = base / f"{genesis[:_SHOWN_BYTES].hex()}-{account[:_SHOWN_BYTES].hex()}"

    def keep(self, note: SessionNote) -> KeptSession:
        """Write a session's file, locked, on disk before this returns.

        Raises SessionTaken when another process of the account holds a session of this id: both have read the same
        nonce, and one of them opens it. Raises SessionUnwritable.
        """
        path = self.directory / f"{note.session.hex()}{SUFFIX}"
        try:
            while True:
                self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                with contextlib.suppress(FileNotFoundError), _locking_directory(self.directory):
                    return _write(path, note)  # else another process has just removed the empty directory
        except OSError as error:
            raise SessionUnwritable(f"{path} cannot be written ({error}): check the disk, then ask again") from error

    def take_left(self) -> Iterator[KeptSession]:
        """The files that no process uses, each held from now on.

        Raises SessionFileDamaged for those that are none, when all others were handed out.
        """
        damaged: SessionFileDamaged | None = None
        for path in sorted(self.directory.glob(f"*{SUFFIX}")):
            try:
                handle = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue  # its process has just closed it
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_gone = os.fstat(handle).st_nlink == 0
                note = None if is_gone else _parse(path, os.read(handle, FILE_BYTES_MAX))
            except BlockingIOError:
                note = None
            except SessionFileDamaged as error:
                note, damaged = None, error
            except BaseException:
                os.close(handle)
                raise
            if note is None:
                os.close(handle)
            else:
                yield KeptSession(path, handle, note)
        if damaged is not None:
            raise damaged


@contextlib.contextmanager
def _locking_directory(directory: Path) -> Iterator[None]:
    """One writer at a time, for as long as a file takes."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, note: SessionNote) -> KeptSession:
    """Make or replace a file that nobody holds."""
    with contextlib.suppress(FileNotFoundError):
        before = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(before, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SessionTaken(
                f"another process of this account is opening session 0x{note.session.hex()} now: ask again"
            ) from error
        finally:
            os.close(before)
    partial = path.with_suffix(SUFFIX + PARTIAL_SUFFIX)
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(handle, _pack(note))
        os.fsync(handle)
        partial.replace(path)
        sync_directory(path.parent)
    except BaseException:
        os.close(handle)
        raise
    return KeptSession(path, handle, note)


def _pack(note: SessionNote) -> bytes:
    body = {
        "session": note.session.hex(),
        "seed": note.seed.hex(),
        "model": note.model.hex(),
        "rest_height": note.rest_height,
        "is_ended": note.is_ended,
    }
    return json.dumps(body).encode()


def _parse(path: Path, data: bytes) -> SessionNote:
    try:
        found = json.loads(data)
        session, seed, model = (bytes.fromhex(found[name]) for name in ("session", "seed", "model"))
        return SessionNote(session, seed, model, int(found["rest_height"]), bool(found["is_ended"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SessionFileDamaged(
            f"{path} is damaged: if session 0x{path.stem} is yours, close it with `myelin tx close-session`, then "
            "remove the file"
        ) from error
