"""Slots of KV memory in several lengths: a sequence gets one of the shortest length that holds it.

Sequences of one memory can run as one batch, so slots are handed out from the lowest free one and memories of a length
are filled in order. Address space alone is reserved here (kv_memory.py); how much may be used is the budget's matter
(kv.py).
"""

from __future__ import annotations

from collections.abc import Callable

from inference.engine.kv_memory import KvCache, KvMemory

SLOTS = 32
"""Sequences of one memory, and so the largest batch. Rows of a call of 32 cost 0.8 of what they cost in calls of 16."""
CAPACITY_MIN = 512
_GROWTH = 4

MakeMemory = Callable[[int, int], KvMemory]
"""(slots, capacity) -> memory."""


class KvSlots:
    """All slots of an engine. Memories without a sequence are dropped."""

    def __init__(self, make_memory: MakeMemory, context_max: int, positions: int | None = None) -> None:
        """`positions`: how many a memory may have, where it is taken whole when it is made."""
        self._positions = positions
        self._make_memory = make_memory
        self._context_max = context_max
        self._memories: dict[int, list[KvMemory]] = {}
        self._taken: dict[KvMemory, set[int]] = {}

    def open(self, positions_max: int) -> KvCache:
        """An empty sequence that can grow to `positions_max`, which the model's context holds."""
        capacity = self._choose_capacity(positions_max)
        memories = self._memories.setdefault(capacity, [])
        for memory in memories:
            if len(self._taken[memory]) < memory.slots:
                break
        else:
            most = SLOTS if self._positions is None else max(1, min(SLOTS, self._positions // capacity))
            memory = self._make_memory(most, capacity)
            memories.append(memory)
            self._taken[memory] = set()
        slot = next(one for one in range(memory.slots) if one not in self._taken[memory])
        self._taken[memory].add(slot)
        return KvCache(memory, slot)

    def close(self, kv: KvCache) -> None:
        """Give a slot back, and the pages it used to the system."""
        taken = self._taken[kv.memory]
        taken.remove(kv.slot)
        if taken:
            kv.memory.release(kv.slot)
            return
        del self._taken[kv.memory]
        self._memories[kv.memory.capacity].remove(kv.memory)

    def _choose_capacity(self, positions_max: int) -> int:
        capacity = min(CAPACITY_MIN, self._context_max)
        while capacity < positions_max:
            capacity *= _GROWTH
        return min(capacity, self._context_max)
