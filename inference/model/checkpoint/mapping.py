"""Maps a checkpoint's file for reading. Knows no format."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from inference.errors import ModelFormatError


def map_file(path: Path, bytes_min: int) -> mmap.mmap:
    """The file's bytes, read as they are used. Raises ModelFormatError unless it is a plain file of so many bytes."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelFormatError(f"{path.name} is not a plain file: give the checkpoint's own file")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < bytes_min:
                raise ModelFormatError(f"{path.name} is too short for a checkpoint: fetch it again")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise ModelFormatError(f"no file {path}: check the path, or fetch it") from error
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path.name} cannot be read ({error}): check its permissions and its disk") from error
