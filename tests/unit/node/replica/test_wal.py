"""The write-ahead log: torn anywhere it gives back every whole record; a hole stops it; repair keeps what is before."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.replica import wal as wal_module
from node.replica.wal import Wal, WalDamaged, read_wal, repair_wal

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


@pytest.mark.parametrize("tail", [b"\0" * 64, bytes(4 << 20), b"\xff" * 7, b"\0\0\0\5garbage that is no record"])
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
    wal = Wal(tmp_path / "wal")
    monkeypatch.setattr(wal_module.os, "fsync", synced.append)
    wal.sync()
    assert synced == []
    wal.append(b"one")
    wal.sync()
    wal.sync()
    assert len(synced) == 1
    wal.close()


def test_zeros_from_any_byte_on_are_a_torn_tail(tmp_path: Path) -> None:
    """A file whose new length reached the disk before its bytes did: after power loss zeros stand for them."""
    path = tmp_path / "wal"
    ends = write(path, [b"first", b"x" * 50, b"third record"])
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes(len(data) - at))
        assert len(read_wal(path)) == sum(end <= at for end in ends), f"zeros from byte {at}"


@pytest.mark.parametrize("rest", [b"", b"\0" * 10])
def test_a_record_hidden_in_a_torn_block_stops_nobody(tmp_path: Path, rest: bytes) -> None:
    """A proposer who puts a log record into a transaction would stop every node that crashes while it writes that."""
    hidden = tmp_path / "hidden"
    write(hidden, [b"looks like a record"])
    path = tmp_path / "wal"
    (end, _) = write(path, [b"whole", b"block: " + hidden.read_bytes() + b"x" * 100])
    data = path.read_bytes()
    path.write_bytes(data[:-50] + rest)
    assert read_wal(path) == [b"whole"]
    assert path.stat().st_size == end


def test_a_large_torn_block_of_hostile_bytes_is_read_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    write(path, [b"whole", b"\0\0\xff\xff" * (1 << 18)])
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    started = time.process_time()
    assert read_wal(path) == [b"whole"]
    assert time.process_time() - started < 1, "it is not searched byte by byte"


def test_a_new_log_has_its_name_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is synced but has no name in its directory is gone after power loss, with the votes' reasons."""
    synced: list[Path] = []
    monkeypatch.setattr(wal_module, "sync_directory", synced.append)
    for _ in range(2):
        Wal(tmp_path / "wal").close()
    assert synced == [tmp_path]
