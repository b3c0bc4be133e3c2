"""A second, independent LevelDB of one moment, copied from files that a running node may have open.

Tables never change once written, so they are linked. Logs and the manifest only grow, so they are copied; a copy may
lack the newest batches, each of them whole. If a file appeared or vanished or the manifest grew during the copy, the
copy may match no single moment and is taken again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.store.database import DatabaseError

ATTEMPTS_MAX = 50
PAUSE_S = 0.1
_TABLES = (".ldb", ".sst")


@contextmanager
def checkpoint(database: Path) -> Iterator[Path]:
    """The copy's directory, removed at the end. Raises DatabaseError when there is no database or it never rests."""
    prefix = f"{database.name}.checkpoint-"
    target = database.with_name(f"{prefix}{os.getpid()}")
    for left in database.parent.glob(f"{prefix}*"):
        if not _is_process(left.name.removeprefix(prefix)):
            shutil.rmtree(left, ignore_errors=True)
    try:
        for _ in range(ATTEMPTS_MAX):
            if _try_copy(database, target):
                yield target
                return
            time.sleep(PAUSE_S)
        raise DatabaseError(f"{database} changes too fast to be copied: try again, or stop the node first")
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _try_copy(database: Path, target: Path) -> bool:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    before = _list_files(database)
    if "CURRENT" not in before:
        raise DatabaseError(f"there is no database at {database}")
    try:
        for name in sorted(before):
            if name.endswith(_TABLES):
                _link(database / name, target / name)
            else:
                shutil.copyfile(database / name, target / name)
        return _list_files(database) == before
    except FileNotFoundError:
        return False


def _list_files(database: Path) -> dict[str, int]:
    """The files of a LevelDB, with the sizes that must not change during the copy."""
    found = {}
    for one in os.scandir(database) if database.is_dir() else ():
        if one.name.startswith("MANIFEST-"):
            found[one.name] = one.stat().st_size
        elif one.name == "CURRENT" or one.name.endswith((*_TABLES, ".log")):
            found[one.name] = 0
    return found


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _is_process(pid: str) -> bool:
    """Whether the process that made a copy still runs; a killed process leaves its copy behind."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except (PermissionError, ValueError):
        return True
    return True
