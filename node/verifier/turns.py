"""Whose turn it is to be judged: one challenge at a time, those that money hangs on first, then by deadline and shard.

A thread that is left alone keeps the turn until it is done. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

SLACK_BLOCKS: Final = 5
"""Among deadlines so near each other a challenge of the shard that was judged last comes first: loads cost a second."""
POLL_S: Final = 0.25

Shard = tuple[bytes, int, int]


@dataclass(frozen=True, eq=False, slots=True)
class _Turn:
    is_audit: bool
    deadline: int
    shard: Shard


class JudgingTurns:
    """Of one verifier. `limiter` is for the threads that judge."""

    def __init__(self) -> None:
        self.limiter = trio.CapacityLimiter(1)
        self._waiting: list[_Turn] = []
        self._last: Shard | None = None
        self._lot = trio.lowlevel.ParkingLot()

    async def wait(self, is_audit: bool, deadline: int, shard: Shard) -> None:
        """Until nothing is judged and this is next. A thread under `limiter` has to follow at once."""
        mine = _Turn(is_audit, deadline, shard)
        self._waiting.append(mine)
        try:
            while self.limiter.borrowed_tokens or min(self._waiting, key=self._rank) is not mine:
                with trio.move_on_after(POLL_S):  # nobody tells of the end of a thread that was left alone
                    await self._lot.park()
            self._last = shard
        finally:
            self._waiting.remove(mine)
            self._lot.unpark_all()

    def note_done(self) -> None:
        """A thread is done."""
        self._lot.unpark_all()

    def _rank(self, one: _Turn) -> tuple[bool, int, bool, int]:
        return one.is_audit, one.deadline // SLACK_BLOCKS, one.shard != self._last, one.deadline
