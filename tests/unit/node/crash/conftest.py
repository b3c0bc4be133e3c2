"""A directory in memory: a restarted node syncs thousands of times, and how long a disk takes is not the question."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev") / "shm"
MEMORY_BYTES_MIN = 64 << 20


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room, else on disk."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_BYTES_MIN:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="myelin-test-", dir=MEMORY) as made:
        yield Path(made)
