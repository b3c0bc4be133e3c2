"""Admission control: KV memory is a budget of positions, taken as sequences grow and given back once."""

from __future__ import annotations

import threading
from types import TracebackType

from inference.errors import EngineError, KvExhaustedError


class KvReservation:
    """Reserved positions of a budget; a context manager. A second `release` has no effect."""

    def __init__(self, budget: KvBudget, positions: int) -> None:
        self.positions = positions
        self._budget: KvBudget | None = budget

    def grow(self, positions: int) -> None:
        """Hold at least `positions`. Raises KvExhaustedError when the budget lacks what is missing."""
        missing = positions - self.positions
        if missing > 0 and self._budget is not None:
            self._budget.take(missing)
            self.positions = positions

    def release(self) -> None:
        """Give the positions back."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.give_back(self.positions)

    def __enter__(self) -> KvReservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class KvBudget:
    """`total` positions that all sequences of an engine share. Thread-safe; never waits."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise EngineError(f"a KV budget holds at least one position, not {total}")
        self.total = total
        self._used = 0
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Positions that are not reserved."""
        return self.total - self._used

    def reserve(self, positions: int) -> KvReservation:
        """Take `positions` (at least 1). Raises KvExhaustedError when fewer are free: the caller queues or refuses."""
        if positions < 1:
            raise EngineError(f"cannot reserve {positions} positions")
        self.take(positions)
        return KvReservation(self, positions)

    def take(self, positions: int) -> None:
        """Positions that a reservation holds from now on; `reserve` and `grow` call it."""
        with self._lock:
            if positions > self.free:
                raise KvExhaustedError(positions, self.free)
            self._used += positions

    def give_back(self, positions: int) -> None:
        """Positions that a reservation had are free again; the reservation calls it, once."""
        with self._lock:
            self._used -= positions
            assert self._used >= 0, "a reservation is released once"
