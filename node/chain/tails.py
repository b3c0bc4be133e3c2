"""Which waiting transaction a full pool drops next: an account's last one, the cheapest first, by part of a block."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from consensus.runtime.system.space import Space

STALE_MAX = 1_024

Tail = tuple[int, int, bytes, int]
"""(price, -arrival, signer, nonce)."""


class Tails:
    """The last transaction of each account, by the lowest part that anything of the account is for.

    So nothing for a lower part hides before a reserved one. What is no account's last any more is skipped.
    """

    def __init__(self) -> None:
        self._heaps: dict[Space, list[Tail]] = {space: [] for space in Space}

    def push(self, space: Space, tail: Tail) -> None:
        """Name an account's last transaction."""
        heapq.heappush(self._heaps[space], tail)

    def pop(self, spaces: Iterable[Space], is_last: Callable[[Space, Tail], bool]) -> tuple[Space, Tail] | None:
        """Take the cheapest of these parts of which `is_last` holds; None when there is none."""
        found: tuple[Space, Tail] | None = None
        for space in spaces:
            heap = self._heaps[space]
            while heap and not is_last(space, heap[0]):
                heapq.heappop(heap)
            if heap and (found is None or heap[0] < found[1]):
                found = space, heap[0]
        if found is not None:
            heapq.heappop(self._heaps[found[0]])
        return found

    def is_stale(self, accounts: int) -> bool:
        """Whether most of what is here is no account's last any more."""
        return sum(len(heap) for heap in self._heaps.values()) > 2 * accounts + STALE_MAX

    def renew(self, tails: Iterable[tuple[Space, Tail]]) -> None:
        """Begin anew with these."""
        for heap in self._heaps.values():
            heap.clear()
        for space, tail in tails:
            self._heaps[space].append(tail)
        for heap in self._heaps.values():
            heapq.heapify(heap)
