"""Files that are whole after a crash: written aside, synced, renamed."""

from __future__ import annotations

import os
from pathlib import Path

PARTIAL_SUFFIX = ".partial"


def write_synced(path: Path, data: bytes) -> None:
    """Replace a file so that after a crash either the old or the new content is there, whole."""
    partial = path.with_suffix(path.suffix + PARTIAL_SUFFIX)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
