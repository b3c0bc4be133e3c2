"""Files that are intact after a crash (written aside, synced, renamed), and locks that give a process a file alone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

PARTIAL_SUFFIX = ".partial"


def lock_beside(path: Path) -> IO[bytes]:
    """Hold the lock of a file, `NAME.lock` beside it, until the returned file is closed or the process ends.

    Raises BlockingIOError when another holder has the lock.
    """
    lock = path.with_suffix(".lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


def write_synced(path: Path, data: bytes) -> None:
    """Replace a file so that a crash leaves either the whole old content or the whole new content."""
    partial = path.with_suffix(path.suffix + PARTIAL_SUFFIX)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Sync a directory: from then on a crash does not lose the names of its files."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
