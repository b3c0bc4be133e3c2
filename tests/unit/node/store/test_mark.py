"""The notes beside LevelDB: what was synced once and is gone is named, and nothing is deleted before that."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.store import database as database_module
from node.store import mark as mark_module
from node.store.chain_store import ChainStore, Retention
from node.store.check import check_database
from node.store.database import DatabaseDamaged, repair_database
from node.store.mark import MARK_NAME, NOTE_BYTES, Mark, Note, read_note
from tests.unit.node.store.test_history import grow
from tests.unit.node.store.test_snapshot import ignore
from tests.unit.node.world import World, make_genesis

BLOCKS = 30


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node's database that was written to tables many times, then closed."""
    path = tmp_path_factory.mktemp("stopped") / "db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_module, "WRITE_BUFFER_BYTES", 1 << 16)
        world = World(path, retention=Retention(state_blocks=8))
        grow(world, BLOCKS, per_block=6)
        world.store.close()
        yield path


@pytest.fixture
def path(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "db"))


def open_and_close(path: Path) -> int:
    store = ChainStore(path, make_genesis(), Retention(state_blocks=8))
    store.close()
    return store.get_head().height


def get_manifest(path: Path) -> Path:
    return path / (path / "CURRENT").read_text().strip()


def list_records(manifest: bytes) -> list[int]:
    """Where each record of a LevelDB log of less than a block begins: CRC u32, length u16 little-endian, kind u8."""
    starts, at = [], 0
    assert len(manifest) < 32_768
    while at < len(manifest):
        starts.append(at)
        at += 7 + int.from_bytes(manifest[at + 4 : at + 6], "little")
    return starts


def test_a_manifest_without_any_one_of_its_last_edits_is_named_and_no_table_is_deleted(path: Path) -> None:
    """Cut between two records, it is whole to LevelDB, which would forget the newest tables and delete them."""
    manifest = get_manifest(path)
    whole = manifest.read_bytes()
    starts = list_records(whole)
    assert len(starts) > 5
    for start in starts[2:]:
        manifest.write_bytes(whole[:start])
        tables = sorted(path.glob("*.ldb"))
        with pytest.raises(DatabaseDamaged, match=r"would be deleted.*myelin db repair"):
            open_and_close(path)
        assert sorted(path.glob("*.ldb")) == tables
    repair_database(path)
    report = check_database(path, make_genesis(), ignore)
    assert (report.problems, report.height) == ([], BLOCKS)


def test_without_the_mark_leveldb_would_have_said_nothing_of_it(path: Path) -> None:
    """What the mark is for: should this fail, LevelDB has learnt to tell, and the mark may go."""
    cut = Path(shutil.copytree(path, path.with_name("cut")))
    whole = get_manifest(cut).read_bytes()
    get_manifest(cut).write_bytes(whole[: list_records(whole)[-1]])
    (cut / MARK_NAME).unlink()
    assert count_rows(cut) < count_rows(path)


def count_rows(path: Path) -> int:
    database = database_module.Database(path)
    try:
        return sum(1 for _ in database.iterate(b""))
    finally:
        database.close()


def test_a_log_that_ends_early_is_named_at_any_length(path: Path) -> None:
    (log,) = path.glob("*.log")
    size = log.stat().st_size
    assert size > 2_000
    for length in (0, 1, size // 3, size - 1):
        copy = Path(shutil.copytree(path, path.with_name(f"cut-{length}")))
        with (copy / log.name).open("r+b") as file:
            file.truncate(length)
        for _ in range(2):
            with pytest.raises(DatabaseDamaged, match=f"had block {BLOCKS} .*myelin db repair.*new `db`"):
                open_and_close(copy)
        repair_database(copy)
        report = check_database(copy, make_genesis(), ignore)
        assert "had block" in report.problems[0][1], "a repair does not make a shorter chain a whole one"


def test_a_lost_last_byte_of_the_mark_costs_one_note(path: Path) -> None:
    world = World(path, retention=Retention(state_blocks=8))
    grow(world, 3)
    copy = Path(shutil.copytree(path, path.with_name("killed"), ignore=shutil.ignore_patterns("LOCK")))
    world.store.close()
    mark = copy / MARK_NAME
    data = mark.read_bytes()
    assert len(data) == 4 * NOTE_BYTES
    for size, height in ((len(data), 33), (len(data) - 1, 32), (NOTE_BYTES + 1, 30)):
        mark.write_bytes(data[:size])
        note = read_note(copy)
        assert note is not None
        assert note.height == height
        assert open_and_close(Path(shutil.copytree(copy, path.with_name(f"at-{size}")))) == 33


def test_a_changed_byte_of_the_mark_is_named_or_changes_nothing(path: Path) -> None:
    data = (path / MARK_NAME).read_bytes()
    for at in range(len(data)):
        (path / MARK_NAME).write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(DatabaseDamaged, match=r"MARK is unreadable.*myelin db repair"):
            open_and_close(path)
    for size in range(len(data)):
        (path / MARK_NAME).write_bytes(data[:size])
        with pytest.raises(DatabaseDamaged, match="MARK is unreadable"):
            open_and_close(path)
    repair_database(path)
    assert open_and_close(path) == BLOCKS
    assert read_note(path) is not None


def test_a_database_without_a_mark_gets_one(path: Path) -> None:
    (path / MARK_NAME).unlink()
    assert open_and_close(path) == BLOCKS
    note = read_note(path)
    assert note is not None
    assert (note.height, note.manifest > 0, note.manifest_bytes > 0) == (BLOCKS, True, True)


def test_another_chain_at_the_same_height_is_named(path: Path) -> None:
    note = read_note(path)
    assert note is not None
    (path / MARK_NAME).write_bytes(Note(note.height, bytes(32), 0, 0, 0).encode())
    with pytest.raises(DatabaseDamaged, match="had block 30"):
        open_and_close(path)


def test_an_older_manifest_in_current_is_named(path: Path) -> None:
    (path / "CURRENT").write_text("MANIFEST-000001\n")
    with pytest.raises(DatabaseDamaged, match="CURRENT does not name"):
        open_and_close(path)


def test_the_file_begins_anew_when_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mark_module, "NOTES_MAX", 5)
    mark = Mark(tmp_path, 0, bytes(32))
    for height in range(1, 13):
        mark.add(height, bytes([height]) * 32)
        note = read_note(tmp_path)
        assert note == Note(height, bytes([height]) * 32, 0, 0, 0)
        assert (tmp_path / MARK_NAME).stat().st_size <= 5 * NOTE_BYTES
    mark.close()
    assert (tmp_path / MARK_NAME).stat().st_size == NOTE_BYTES
