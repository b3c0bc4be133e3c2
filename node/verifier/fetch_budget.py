"""How many openings are fetched at once: as many as fit into memory, and no worker's silence holds up another's.

Knows sizes and whose answers came, no network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

BYTES_AT_ONCE_MAX: Final = 512 << 20
SUSPECT_SHARE: Final = 4
"""Workers whose last answer did not come have a quarter of the memory together."""
STREAMS_PER_WORKER_MAX: Final = 6
"""A worker serves eight to one peer."""


class FetchBudget:
    """Memory and streams for openings on their way, of one verifier."""

    def __init__(self, bytes_max: int = BYTES_AT_ONCE_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = self._suspect_bytes = 0
        self._streams: dict[bytes, int] = {}
        self._suspects: set[bytes] = set()
        self._saturated: set[bytes] = set()
        self._waiting = trio.lowlevel.ParkingLot()

    def is_suspect(self, worker: bytes) -> bool:
        """Whether the worker's last answer did not come."""
        return worker in self._suspects

    def is_in_its_own_way(self, worker: bytes) -> bool:
        """Whether openings of the worker are not asked for because it answers none of those that are."""
        return worker in self._suspects or worker in self._saturated

    def note_answer(self, worker: bytes) -> None:
        """A valid opening of it came."""
        self._suspects.discard(worker)
        self._saturated.discard(worker)

    def note_failure(self, worker: bytes) -> None:
        """It did not answer, or with what is no opening."""
        self._suspects.add(worker)

    def retain_only(self, workers: frozenset[bytes]) -> None:
        """Forget what was noted of others."""
        self._suspects &= workers
        self._saturated &= workers

    @asynccontextmanager
    async def take(self, worker: bytes, size_bytes: int) -> AsyncIterator[None]:
        """Wait for room for an opening of up to `size_bytes`, and hold it within the block."""
        while True:
            is_suspect = self.is_suspect(worker)
            limit = self._bytes_max // SUSPECT_SHARE if is_suspect else self._bytes_max
            held = self._suspect_bytes if is_suspect else 0
            size = min(size_bytes, limit)
            is_room = self._bytes + size <= self._bytes_max and held + size <= limit
            if is_room and self._streams.get(worker, 0) < STREAMS_PER_WORKER_MAX:
                break
            if is_room:
                self._saturated.add(worker)
            await self._waiting.park()
        self._bytes += size
        self._suspect_bytes += size if is_suspect else 0
        self._streams[worker] = self._streams.get(worker, 0) + 1
        try:
            yield
        finally:
            self._bytes -= size
            self._suspect_bytes -= size if is_suspect else 0
            self._streams[worker] -= 1
            if not self._streams[worker]:
                del self._streams[worker]
            self._waiting.unpark_all()
