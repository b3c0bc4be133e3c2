"""KV memory of several sequences on one shard, and one sequence's place in it. Knows no runtime and no budget.

Memory is reserved address space: the system gives pages only for positions that were written, so a long capacity costs
nothing until it is used. Slots lie one after another, so that neighbours run as one batch without a copy.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import EngineError
from inference.model.graph.shard import ShardRange

Memory = NDArray[np.float32]
Allocate = Callable[[tuple[int, ...]], Any]
"""Memory of a shape, in fp32, on a device."""

_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0
"""Else Linux refuses a map that is larger than all of the machine's memory, used or not."""
_SPARE_POSITIONS = 1
"""Where idle rows of a batch, and the second row of a position that runs twice, may write."""


class KvMemory:
    """`slots` sequences of up to `capacity` positions each, and one position more that never holds an answer."""

    def __init__(self, shard: ShardRange, slots: int, capacity: int, allocate: Allocate | None = None) -> None:
        """In this process's memory, or where `allocate` takes it: all of it at once, there.

        Raises EngineError for a capacity beyond the model's context, or where so much address space is not to be had.
        """
        if not 1 <= capacity <= shard.architecture.context_max:
            raise EngineError(f"a sequence has 1 to {shard.architecture.context_max} positions, not {capacity}")
        self.slots = slots
        self.capacity = capacity
        self.positions = capacity + _SPARE_POSITIONS
        self.lengths = [0] * slots
        """Valid positions of each slot. What lies behind them is garbage that no later call reads."""
        self.layers: dict[str, Any] = {}
        """`Memory` of each layer's keys and values by name, or what `allocate` made."""
        self._maps: dict[str, mmap.mmap] = {}
        for layer in shard.layers:
            shape = shard.family.get_kv_shape(shard.decoder, layer)
            for part, width in (("key", shape.key_width), ("value", shape.value_width)):
                name, size = f"{part}.{layer}", (slots, shape.heads, self.positions, width)
                if not width:  # one memory for both: the runtime writes the same rows twice
                    self.layers[name] = self.layers[f"key.{layer}"]
                else:
                    self.layers[name] = allocate(size) if allocate else self._map(name, size)
        self.bindings: dict[tuple[int, ...], Any] = {}
        """What the runtime keeps for each of its graphs and a range of slots; its own matter."""

    def release(self, slot: int) -> None:
        """Empty a slot and give its pages back to the system, where it is this process's memory."""
        self.lengths[slot] = 0
        for name, mapped in self._maps.items():
            size = self.layers[name][slot].nbytes
            start = -(-slot * size // mmap.PAGESIZE) * mmap.PAGESIZE
            whole = (slot + 1) * size // mmap.PAGESIZE * mmap.PAGESIZE - start
            if whole > 0:
                mapped.madvise(mmap.MADV_DONTNEED, start, whole)

    def _map(self, name: str, shape: tuple[int, ...]) -> Memory:
        size = math.prod(shape) * np.dtype(np.float32).itemsize
        try:
            self._maps[name] = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        except (OSError, OverflowError) as error:
            raise EngineError(
                f"the system has no {size} bytes of address space for KV memory ({error}): serve fewer layers, or raise"
                " its limits (ulimit -v, vm.overcommit_memory)"
            ) from error
        return np.frombuffer(self._maps[name], np.float32).reshape(shape)


class KvCache:
    """One sequence in a slot of a memory. A rollback just sets its length."""

    def __init__(self, memory: KvMemory, slot: int) -> None:
        """An empty sequence in `slot`, whatever was there before."""
        self.memory = memory
        self.slot = slot
        self.length = 0

    @property
    def capacity(self) -> int:
        """The most positions it can hold."""
        return self.memory.capacity

    @property
    def length(self) -> int:
        """Positions that are valid."""
        return self.memory.lengths[self.slot]

    @length.setter
    def length(self, value: int) -> None:
        self.memory.lengths[self.slot] = value

    def truncate(self, length: int) -> None:
        """Forget positions from `length` on. Raises EngineError when `length` exceeds the valid positions."""
        if not 0 <= length <= self.length:
            raise EngineError(f"cannot cut a sequence of {self.length} positions to {length}")
        self.length = length
