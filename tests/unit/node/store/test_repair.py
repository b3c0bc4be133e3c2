"""LevelDB's repair makes a table of each log in the order of the directory; a look-up has to find the newest value."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import plyvel
import pytest

from node.store.database import Database, repair_database


def leave_logs(path: Path, count: int) -> None:
    """A database without CURRENT and with so many logs, none in a table yet: as a crash under load leaves it."""
    logs: dict[str, bytes] = {}
    for number in range(count):
        with closing(plyvel.DB(str(path), create_if_missing=True)) as opened:
            opened.put(b"mhead", b"%d" % number)
        (log,) = path.glob("*.log")
        logs[log.name] = log.read_bytes()
    for file in [*path.glob("*.ldb"), *path.glob("*.log"), path / "CURRENT"]:
        file.unlink()
    for name, data in logs.items():
        (path / name).write_bytes(data)


@pytest.mark.parametrize("count", range(2, 10))
def test_the_newest_of_several_logs_counts(tmp_path: Path, count: int) -> None:
    """By LevelDB alone some of these eight end with an older value, on ext4 three (LevelDB 1.22 of plyvel 1.5.1)."""
    path = tmp_path / "db"
    leave_logs(path, count)
    repair_database(path)
    with closing(Database(path)) as repaired:
        assert repaired.get(b"mhead") == b"%d" % (count - 1)
