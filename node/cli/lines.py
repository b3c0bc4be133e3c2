"""Lines from standard input, read so that waiting for one can be cancelled.

No thread waits in `input()`: one that is left behind holds the lock of standard input, and the interpreter cannot end.
"""

from __future__ import annotations

import os

import trio

READ_BYTES = 65_536


class LineReader:
    """Reads lines from a file descriptor, which may be a terminal, a pipe or a file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self._has_ended = False

    async def read_line(self) -> str | None:
        """The next line, without its end; None after the last."""
        while b"\n" not in self._rest and not self._has_ended:
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except PermissionError:  # a file, which is always ready
                await trio.lowlevel.checkpoint()
            data = os.read(self._fd, READ_BYTES)
            self._has_ended = not data
            self._rest += data
        line, newline, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace") if line or newline else None
