"""A request's rows in order, kept so that its KV memory can be computed again."""

from __future__ import annotations

import numpy as np

from inference.engine.rows import Rows
from inference.errors import EngineError


class ReplayRecord:
    """Rows [0, length) that a request was given: token ids on a first shard, hidden rows on others."""

    def __init__(self) -> None:
        self._pieces: list[Rows] = []
        self.length = 0

    def append(self, rows: Rows) -> None:
        """Rows that follow."""
        self._pieces.append(rows)
        self.length += len(rows)

    def truncate(self, length: int) -> None:
        """Forget rows from `length` on. Raises EngineError when there are fewer."""
        if not 0 <= length <= self.length:
            raise EngineError(f"cannot cut a sequence of {self.length} positions to {length}")
        while self.length > length:  # from the end: a draft is cut off after every call
            last = self._pieces.pop()
            self.length -= len(last)
            if self.length < length:
                self._pieces.append(last[: length - self.length])
                self.length = length

    def read(self, start: int, count: int) -> Rows:
        """Rows [start, start + count)."""
        if len(self._pieces) > 1:
            joined: Rows = np.concatenate(self._pieces)  # type: ignore[assignment]
            self._pieces = [joined]
        return self._pieces[0][start : start + count]
