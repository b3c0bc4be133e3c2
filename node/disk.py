"""A node's directory as the parts that must survive a crash see it: files replaced whole, and logs appended to.

`FileDisk` is the real one; the simulator's (`node/sim/disk.py`) loses what was not synced, tears what was being
written, and stops the node at any chosen write.
"""

from __future__ import annotations

from typing import Protocol


class LogFile(Protocol):
    """A file that grows at its end."""

    def append(self, data: bytes) -> None:
        """Add bytes. After a crash a prefix of what was not synced may be there, or none of it."""

    def sync(self) -> None:
        """Everything appended is on disk when this returns."""

    def truncate(self, size_bytes: int) -> None:
        """Cut to this length, synced."""

    def close(self) -> None:
        """Sync and release."""


class Lock(Protocol):
    """Held until closed, or until the process ends."""

    def close(self) -> None:
        """Let go."""


class Disk(Protocol):
    """One directory."""

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None when there is no such file."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a file whole, synced: after a crash the old or the new content is there."""

    def open_log(self, name: str) -> LogFile:
        """Open a log for appending, made when it is not there."""

    def lock(self, name: str) -> Lock:
        """Hold the lock of a file. Raises BlockingIOError when another holder has it."""

    def describe(self, name: str) -> str:
        """The file as an operator knows it, for messages."""
