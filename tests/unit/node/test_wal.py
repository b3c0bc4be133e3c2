"""The write-ahead log: torn anywhere it gives back every whole record; a hole stops it; repair keeps what is before."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import wal as wal_module
from node.wal import Wal, WalDamaged, read_wal, repair_wal

RECORDS = [b"first", b"x" * 50, b"third record", bytes(20)]


def write(path: Path, records: list[bytes]) -> list[int]:
    """Write a log; returns where each record ends."""
    ends = []
    wal = Wal(path)
    for record in records:
        wal.append(record)
        wal.sync()
        ends.append(path.stat().st_size)
    wal.close()
    return ends


def test_what_was_synced_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "wal"
    assert read_wal(path) == []
    write(path, RECORDS)
    assert read_wal(path) == RECORDS
    write(path, [b"later"])
    assert read_wal(path) == [*RECORDS, b"later"]


def test_a_record_is_on_disk_after_sync_not_before(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "wal")
    wal.append(b"one")
    assert read_wal(tmp_path / "wal") == []
    wal.sync()
    assert read_wal(tmp_path / "wal") == [b"one"]
    wal.close()


def test_torn_at_every_byte_it_gives_every_whole_record_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    ends = write(path, RECORDS)
    data = path.read_bytes()
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = [record for record, end in zip(RECORDS, ends, strict=True) if end <= size]
        assert read_wal(path) == whole, f"torn at byte {size}"
        write(path, [b"next"])
        assert read_wal(path) == [*whole, b"next"], f"torn at byte {size}"
        path.unlink()


@pytest.mark.parametrize("tail", [b"\0" * 64, b"\xff" * 7, b"\0\0\0\5garbage that is no record"])
def test_a_tail_that_is_no_record_is_dropped(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "wal"
    write(path, RECORDS)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(tail)
    assert read_wal(path) == RECORDS
    assert path.stat().st_size == size, "the tail is cut off the file"


def test_any_damage_before_the_last_record_is_a_hole_that_repair_cuts(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    ends = write(path, RECORDS)
    data = path.read_bytes()
    for at in range(ends[-2]):
        broken = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        path.write_bytes(broken)
        with pytest.raises(WalDamaged, match="myelin wal repair"):
            read_wal(path)
        assert path.read_bytes() == broken, "a damaged log is left as it is"
        repair_wal(path)
        assert read_wal(path) == [record for record, end in zip(RECORDS, ends, strict=True) if end <= at]


def test_repair_of_a_whole_log_drops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    write(path, RECORDS)
    assert repair_wal(path) == 0
    assert read_wal(path) == RECORDS


def test_truncation_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    wal = Wal(path)
    wal.append(b"old")
    wal.sync()
    wal.append(b"old and unsynced")
    wal.truncate()
    wal.append(b"new")
    wal.sync()
    assert read_wal(path) == [b"new"]
    wal.close()


@settings(max_examples=40, deadline=None)
@given(records=st.lists(st.binary(min_size=1, max_size=64), max_size=8), junk=st.binary(max_size=32))
def test_records_of_any_content_survive_any_tail(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("wal") / "wal"
    write(path, records)
    with path.open("ab") as file:
        file.write(junk)
    found = read_wal(path)
    assert found[: len(records)] == records


def test_sync_reaches_the_disk_and_only_when_there_is_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(wal_module.os, "fsync", synced.append)
    wal = Wal(tmp_path / "wal")
    wal.sync()
    assert synced == []
    wal.append(b"one")
    wal.sync()
    wal.sync()
    assert len(synced) == 1
    wal.close()
