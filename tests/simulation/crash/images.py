"""Every state a crash can leave on disk: images of a directory, taken at each write of one real run.

An image before an operation is what a killed process leaves; one with the last write torn, or with a truncation undone,
is what a stopped machine leaves, of whose unsynced bytes anything may be there. Equal images are taken once.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from node.replica.wal import DiskLog, Wal
from node.store.database import Database

COPIES_MAX = 200
IGNORED = ("LOG", "LOG.old", "LOCK")
"""Of LevelDB's files, those that hold no data."""


@dataclass(frozen=True)
class Image:
    """One directory to start from. `mark` is what the run had told about itself by then."""

    about: str
    path: Path
    mark: int


@dataclass
class Recorder:
    """Copies `base` at each write below it. `torn` offsets are drawn for each synced write."""

    base: Path
    images: Path
    torn: int
    get_mark: Callable[[], int] = lambda: 0
    taken: list[Image] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    _digests: set[bytes] = field(default_factory=set)
    _synced: dict[Path, int] = field(default_factory=dict)
    _truncated: dict[Path, bytes] = field(default_factory=dict)
    _dice: random.Random = field(default_factory=lambda: random.Random(20_261_123))

    def note(self, operation: str) -> None:
        """An operation is about to happen."""
        self.seen.append(operation)
        about = f"{len(self.seen)} before {operation}"
        self.take(about)
        for path, was in self._truncated.items():
            self.take(f"{about}, {path.name} not truncated", {path: was})

    def take(self, about: str, instead: dict[Path, bytes] | None = None) -> None:
        """An image of now, with other bytes in some files."""
        target = self.images / f"{len(self.taken):04}"
        copy_resting(self.base, target)
        for path, data in (instead or {}).items():
            (target / path.relative_to(self.base)).write_bytes(data)
        digest = compute_digest(target)
        if digest in self._digests:
            shutil.rmtree(target)
            return
        self._digests.add(digest)
        self.taken.append(Image(about, target, self.get_mark()))

    def sync(self, path: Path) -> None:
        """A file is about to be synced: of what it has grown by, any part may be there."""
        self.note(f"sync of {path.name}")
        if path.name.startswith("MANIFEST-"):
            return  # LevelDB had synced it itself
        data, known = path.read_bytes(), self._synced.get(path, 0)
        before = self._truncated.pop(path, b"")
        self._tear(path, before[:known] if before else data[:known], data)
        self._synced[path] = len(data)

    def tear_logs(self, before: dict[Path, int]) -> None:
        """A batch was written: LevelDB's log, as far as any part of it."""
        for path, size in list_logs(self.base).items():
            if size > before.get(path, 0):
                data = path.read_bytes()
                self._tear(path, data[: before.get(path, 0)], data)

    def truncate(self, path: Path) -> None:
        """A file is about to be emptied, which lasts when it is synced next."""
        self.note(f"truncation of {path.name}")
        self._truncated[path] = path.read_bytes()
        self._synced[path] = 0

    def move(self, source: Path, target: Path) -> None:
        """A file or directory is about to be renamed."""
        self.note(f"rename to {target.name}")
        self._synced[target] = self._synced.pop(source, 0)

    def _tear(self, path: Path, before: bytes, after: bytes) -> None:
        low, high = len(before), len(after)
        sizes = {low, low + 1, (low + high) // 2, high - 1} if low < high and after.startswith(before) else {0}
        for size in self._dice.sample(sorted(sizes), min(self.torn, len(sizes))):
            self.take(f"{len(self.seen)} {path.name} torn at {size} of {low}..{high}", {path: after[:size]})


def list_logs(base: Path) -> dict[Path, int]:
    """LevelDB's logs below a directory, with their sizes."""
    return {path: path.stat().st_size for path in base.rglob("*.log")}


def copy_resting(base: Path, target: Path) -> None:
    """A copy of one moment: LevelDB's own thread may make a table of a log meanwhile."""
    for _ in range(COPIES_MAX):
        before = _list_sizes(base)
        try:
            shutil.copytree(base, target, ignore=shutil.ignore_patterns(*IGNORED, "*.sock"))
        except (FileNotFoundError, shutil.Error):
            shutil.rmtree(target)
            continue
        if _list_sizes(base) == before == _list_sizes(target):
            return
        shutil.rmtree(target)
    raise AssertionError(f"{base} never rests")


def compute_digest(directory: Path) -> bytes:
    """Names and bytes of everything below."""
    found = hashlib.blake2b()
    for path in sorted(directory.rglob("*")):
        found.update(f"{path.relative_to(directory)}\0".encode())
        if path.is_file():
            found.update(hashlib.blake2b(path.read_bytes()).digest())
    return found.digest()


def _list_sizes(base: Path) -> dict[str, int]:
    found = {}
    for path in base.rglob("*"):
        if path.name not in IGNORED:
            try:
                found[str(path.relative_to(base))] = path.stat().st_size if path.is_file() else 0
            except FileNotFoundError:
                continue
    return found


@contextmanager
def record_writes(recorder: Recorder) -> Iterator[Recorder]:
    """Tell the recorder of every write below its base: batches, compactions, syncs, truncations, renames, removals."""
    write, compact, truncate = Database.write, Database.compact, Wal.truncate
    sync, replace, rename, remove = os.fsync, Path.replace, Path.rename, shutil.rmtree

    def is_below(path: Path) -> bool:
        return path.is_relative_to(recorder.base)

    def on_write(self: Database, items: Any) -> None:
        if not is_below(self._path):
            write(self, items)
            return
        recorder.note("batch")
        before = list_logs(recorder.base)
        write(self, items)
        recorder.tear_logs(before)

    def on_compact(self: Database, prefix: bytes) -> None:
        recorder.note(f"compaction of {prefix.decode()}")
        working = threading.Thread(target=compact, args=(self, prefix))
        working.start()
        while working.is_alive():
            recorder.take(f"{len(recorder.seen)} in the midst of a compaction")
        working.join()

    def on_truncate(self: Wal) -> None:
        assert isinstance(self._log, DiskLog)
        self._log.file.flush()
        recorder.truncate(Path(self._log.file.name))
        truncate(self)

    def on_sync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if is_below(path):
            if path.is_dir():
                recorder.note(f"sync of directory {path.name}")
            else:
                recorder.sync(path)
        sync(fd)

    def make_move(function: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def on_move(self: Path, target: Path) -> Path:
            if is_below(self):
                recorder.move(self, target)
            return function(self, target)

        return on_move

    def on_remove(path: Path, **rest: Any) -> None:
        if is_below(Path(path)) and Path(path).exists():
            recorder.note(f"removal of {Path(path).name}")
        remove(path, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "write", on_write)
        patch.setattr(Database, "compact", on_compact)
        patch.setattr(Wal, "truncate", on_truncate)
        patch.setattr(os, "fsync", on_sync)
        patch.setattr(Path, "replace", make_move(replace))
        patch.setattr(Path, "rename", make_move(rename))
        patch.setattr("node.store.snapshot_import.shutil.rmtree", on_remove)
        yield recorder
    recorder.note("the end")
