"""LevelDB behind four verbs: a batch is all or nothing, damage and locks have names and advice."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.store.columns import Column
from node.store.database import (
    Database,
    DatabaseDamaged,
    DatabaseError,
    DatabaseForbidden,
    DatabaseLocked,
    repair_database,
)

NOBODY = 65_534


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "db")
    yield made
    made.close()


def test_written_values_are_read_and_deleted(database: Database) -> None:
    database.write([(b"a", b"1"), (b"b", b"2"), (b"c", b"")])
    database.write([(b"a", None), (b"never", None)])
    assert [database.get(key) for key in (b"a", b"b", b"c")] == [None, b"2", b""]


def test_a_batch_that_fails_halfway_leaves_nothing(database: Database) -> None:
    def items() -> Iterator[tuple[bytes, bytes | None]]:
        yield b"a", b"1"
        raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        database.write(items())
    assert database.get(b"a") is None


def test_a_second_opener_is_told_that_it_is_locked(database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseLocked, match="stop that node first"):
        Database(tmp_path / "db")


def test_iteration_stays_under_its_prefix_and_is_ordered(database: Database) -> None:
    keys = [b"a", b"b", b"b\x00", b"b1", b"b\xff", b"b\xff\xff", b"c", b"\xff", b"\xff\xff"]
    database.write([(key, key) for key in reversed(keys)])
    assert [key for key, _ in database.iterate(b"b")] == [b"b", b"b\x00", b"b1", b"b\xff", b"b\xff\xff"]
    assert [key for key, _ in database.iterate(b"b", b"b1")] == [b"b1", b"b\xff", b"b\xff\xff"]
    assert [key for key, _ in database.iterate(b"\xff")] == [b"\xff", b"\xff\xff"]
    assert [key for key, _ in database.iterate(b"")] == sorted(keys)
    assert next(key for key, _ in database.iterate(b"b", b"a")) == b"b"


def test_an_iteration_sees_the_moment_it_began(database: Database) -> None:
    database.write([(b"a", b"1"), (b"b", b"1")])
    found = database.iterate(b"")
    assert next(found) == (b"a", b"1")
    database.write([(b"b", b"2"), (b"c", b"2")])
    assert list(found) == [(b"b", b"1")]


def test_damage_is_named_with_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database = Database(path)
    database.write([(index.to_bytes(4, "big"), index.to_bytes(4, "big") * 64) for index in range(20_000)])
    database.close()
    Database(path).close()  # the log becomes a table
    table = max(path.glob("*.ldb"), key=lambda one: one.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 0xFF
    table.write_bytes(data)
    with pytest.raises(DatabaseDamaged, match="myelin db repair"):
        _read_all(path)


def test_repair_keeps_what_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database = Database(path)
    database.write([(b"a", b"1")])
    database.close()
    (path / "CURRENT").unlink()
    repair_database(path)
    database = Database(path)
    assert database.get(b"a") == b"1"
    database.close()


def test_a_directory_that_cannot_be_opened_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "db"
    Database(path).close()
    (path / "CURRENT").write_text("nonsense")
    with pytest.raises(DatabaseError):
        Database(path)


@contextmanager
def as_somebody_else(path: Path) -> Iterator[None]:
    """As a user who may look at `path` and write nothing there."""
    path.parent.chmod(0o755)
    if os.geteuid():
        path.chmod(0o500)
        (path / "LOCK").chmod(0o400)
        yield
        path.chmod(0o700)
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_of_another_user_are_not_called_damaged() -> None:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "db"
        Database(path).close()
        with as_somebody_else(path):
            for action in (Database, repair_database):
                with pytest.raises(DatabaseForbidden, match=r"not damaged.*chown") as refused:
                    action(path)
                assert "repair`" not in str(refused.value)
        path.chmod(0)
        with as_somebody_else(path), pytest.raises(DatabaseForbidden):
            Database(path)
        path.chmod(0o700)
        Database(path).close()


def test_too_few_file_handles_are_not_called_damage(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    Database(tmp_path / "db").close()
    free = os.dup(0)  # the lowest number there is; the limit is on numbers
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        with pytest.raises(DatabaseError, match="raise the limit") as refused:
            Database(tmp_path / "db")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not isinstance(refused.value, DatabaseDamaged)
    Database(tmp_path / "db").close()


def test_columns_are_one_byte_and_differ() -> None:
    assert {len(one.value) for one in Column} == {1}
    assert len({one.value for one in Column}) == len(Column)


def _read_all(path: Path) -> None:
    database = Database(path)
    try:
        for index in range(20_000):
            database.get(index.to_bytes(4, "big"))
    finally:
        database.close()
