"""Waiting to the microsecond: the event loop's own waits end on whole milliseconds, which on a link of 5 ms is much."""

from __future__ import annotations

import ctypes
import os
import time
from types import TracebackType

import trio

_NS = 1_000_000_000


class _Interval(ctypes.Structure):
    """`struct itimerspec`: the period, then the wait."""

    _fields_ = (("period", ctypes.c_long * 2), ("wait", ctypes.c_long * 2))


class ExactTimer:
    """A timer of the kernel (timerfd, Linux); one task at a time waits on it."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "no timer")

    def __enter__(self) -> ExactTimer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    async def sleep(self, seconds: float) -> None:
        """Wait so long; at once for what is not above 0."""
        wait_ns = int(seconds * _NS)
        if wait_ns <= 0:
            return
        interval = _Interval((0, 0), (wait_ns // _NS, wait_ns % _NS))
        if self._libc.timerfd_settime(self._file, 0, ctypes.byref(interval), None):
            raise OSError(ctypes.get_errno(), "the timer cannot be set")
        await trio.lowlevel.wait_readable(self._file)
        os.read(self._file, 8)
