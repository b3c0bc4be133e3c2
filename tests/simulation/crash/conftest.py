"""A directory in memory: a restarted node syncs thousands of times, and how long a disk takes is not the question."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.store import chain_store, database, history, retention
from tests.simulation.crash.steady import BODIES, Story, tell_story

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


@pytest.fixture(scope="package", autouse=True)
def _small_limits() -> Iterator[None]:
    """Bodies are pruned within twelve blocks, and LevelDB makes tables meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (history, retention):
            patch.setattr(module, "BODY_BLOCKS_MIN", BODIES)
        patch.setattr(chain_store, "compute_body_floor", lambda state: BODIES)
        patch.setattr(database, "WRITE_BUFFER_BYTES", 1 << 16)
        yield


@pytest.fixture(scope="package")
def story(tmp_path_factory: pytest.TempPathFactory, _small_limits: None) -> Story:
    """The uncut run."""
    return tell_story(tmp_path_factory.mktemp("crashes"))
