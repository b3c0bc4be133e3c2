"""Sizes of memory: exact, with a unit, and checked against the layers where both are given."""

from __future__ import annotations

import pytest

from inference.engine.device import CPU, Device
from node.cli import memory_option
from node.cli.memory_option import MemoryInvalid, parse_size, read_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 << 30),
        ("4 gib", 4 << 30),
        ("1.5GB", 1_500_000_000),
        ("500MB", 500_000_000),
        (" 500mib ", 500 << 20),
        ("1b", 1),
        ("2TiB", 2 << 40),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "4", "4G", "GiB", "-4GiB", "4,5GB", "4.GiB", "٤GiB", "9" * 30 + "GB", "0GB", "4iB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(MemoryInvalid, match="write a"):
        parse_size(text)


def test_without_a_size_most_of_what_is_free_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_option, "read_available_bytes", lambda: 1_000_000)
    assert read_memory(None, CPU) == 750_000
    assert read_memory("2MB", CPU) == 2_000_000
    with pytest.raises(MemoryInvalid, match="say --memory"):
        read_memory(None, Device.parse("cuda"))
    assert read_memory("2MB", Device.parse("cuda")) == 2_000_000
