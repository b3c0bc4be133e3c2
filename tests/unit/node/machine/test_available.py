"""The memory that is free, as Linux tells it, bounded by the process's group."""

from __future__ import annotations

from pathlib import Path

from node.machine.available import read_available_bytes


def test_what_the_system_says_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8 kB\nMemAvailable:    5000 kB\n")
    assert read_available_bytes(meminfo, tmp_path) == 5_000 * 1_024


def test_a_group_with_less_left_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 5000 kB\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert read_available_bytes(meminfo, tmp_path) == 600_000
    (tmp_path / "memory.current").write_text("1400000\n")
    assert read_available_bytes(meminfo, tmp_path) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert read_available_bytes(meminfo, tmp_path) == 5_000 * 1_024


def test_a_system_that_does_not_say_is_taken_for_half_free(tmp_path: Path) -> None:
    assert read_available_bytes(tmp_path / "none", tmp_path) > 0
    (tmp_path / "odd").write_text("MemAvailable:\nnonsense\n")
    assert read_available_bytes(tmp_path / "odd", tmp_path) == read_available_bytes(tmp_path / "none", tmp_path)


def test_this_machine_has_memory() -> None:
    assert read_available_bytes() > 0
