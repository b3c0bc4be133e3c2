"""Which part of a session's deposit each order pays from. Pure: no chain, no clock, no keys.

Positions are nmyl, counted from the session's first. An order takes the next ones, so no position is ever promised
twice, whatever runs at once. What a settled request left of its slice comes back from the chain as new positions at the
end; the slice of an order that failed before any voucher stays dead until the session closes.
"""

from __future__ import annotations

from dataclasses import dataclass

from proto_specs.limits import SESSION_SEQUENCES_MAX


@dataclass(frozen=True, slots=True)
class EscrowSlice:
    """Positions [start, end) of a session's deposit, for the order of this number."""

    sequence: int
    start: int
    end: int

    @property
    def price_max(self) -> int:
        """The most nmyl that its order may cost."""
        return self.end - self.start


class EscrowSession:
    """The allocation of one session's deposit. `promisable` is deposit + released, as the chain has shown it."""

    def __init__(self, deposit: int, requests_max: int) -> None:
        self.promisable = deposit
        self.requests_max = requests_max
        self.dead = 0
        """Nmyl that this session cannot promise again."""
        self._next = 0
        self._sequence = 0
        self._running: dict[int, EscrowSlice] = {}
        self._ended_unpaid = 0
        self.vouched = 0
        """Orders that ended with a voucher: they settle, or their slices return when the session closes."""

    @property
    def unpromised(self) -> int:
        """Nmyl that a next order may take."""
        return self.promisable - self._next

    @property
    def running(self) -> int:
        """Orders that are under way."""
        return len(self._running)

    @property
    def requests_left(self) -> int:
        """Orders that it can still take. Those that failed without a voucher do not count, but use up a number."""
        left = self.requests_max - (self._sequence - self._ended_unpaid)
        return min(left, SESSION_SEQUENCES_MAX - self._sequence)

    def take(self, price_max: int) -> EscrowSlice | None:
        """The slice of a new order, under the next number; None when it does not fit."""
        assert price_max > 0, "no order is free"
        if price_max > self.unpromised or self.requests_left < 1:
            return None
        found = EscrowSlice(self._sequence, self._next, self._next + price_max)
        self._next += price_max
        self._sequence += 1
        self._running[found.sequence] = found
        return found

    def end(self, sequence: int, is_vouched: bool) -> None:
        """An order ended. Without a voucher nobody can settle it: its slice is dead."""
        ended = self._running.pop(sequence)
        if not is_vouched:
            self._ended_unpaid += 1
            self.dead += ended.price_max
        else:
            self.vouched += 1

    def observe(self, promisable: int) -> None:
        """What the chain shows of deposit + released. Both only grow: an older view changes nothing."""
        self.promisable = max(self.promisable, promisable)
