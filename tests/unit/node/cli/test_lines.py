"""Lines come as they are typed, from a pipe or a file, and waiting for one can be cancelled."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from node.cli.lines import LineReader


async def test_lines_of_a_pipe() -> None:
    reading, writing = os.pipe()
    reader = LineReader(reading)
    try:
        os.write(writing, "one\nzwö\nth".encode())
        assert await reader.read_line() == "one"
        assert await reader.read_line() == "zwö"
        with trio.move_on_after(0.01) as scope:
            await reader.read_line()
        assert scope.cancelled_caught
        os.write(writing, b"ree\n\n")
        assert await reader.read_line() == "three"
        assert await reader.read_line() == ""
    finally:
        os.close(writing)
    assert await reader.read_line() is None
    os.close(reading)


async def test_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"one\nlast \xff")
    fd = os.open(tmp_path / "lines", os.O_RDONLY)
    try:
        reader = LineReader(fd)
        assert [await reader.read_line() for _ in range(3)] == ["one", "last \N{REPLACEMENT CHARACTER}", None]
    finally:
        os.close(fd)
