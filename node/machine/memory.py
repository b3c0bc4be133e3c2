"""Gives back memory that the C library keeps for itself. Does nothing where the C library is not glibc.

Blocks bring bursts of short-lived buffers from several threads, and glibc keeps the freed memory in an arena for each
thread: half as much again as the node holds, measured at a million accounts (benchmarks/README.md).
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

import trio

INTERVAL_S = 3.0
_ARENA_MAX: Final = -8
"""M_ARENA_MAX of glibc's malloc.h."""


def limit_arenas() -> bool:
    """Share a single arena among all threads; Python's lock prevents contention. Call it before threads start."""
    libc = _load()
    return libc is not None and libc.mallopt(_ARENA_MAX, 1) == 1


def trim() -> bool:
    """Give free memory back to the system; returns whether there was any. Takes milliseconds."""
    libc = _load()
    return libc is not None and libc.malloc_trim(0) == 1


async def trim_now_and_then() -> None:
    """Give free memory back every INTERVAL_S, until cancelled."""
    while True:
        await trio.sleep(INTERVAL_S)
        await trio.to_thread.run_sync(_trim)


def _trim() -> None:
    gc.collect(1)
    trim()


def _load() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
