"""The network between simulated nodes: it delays, loses, duplicates, reorders and partitions messages."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Callable

from node.sim.consensus.plan import Plan
from node.sim.consensus.schedule import FaultSchedule

REQUEST_TIMEOUT_MS = 2_000
CALM_DELAY_MS_MAX = 20
FLAP_MS = 250


class SimNetwork:
    """Delivers or drops messages. `heal` ends all faults."""

    def __init__(self, plan: Plan, schedule: FaultSchedule, dice: random.Random) -> None:
        self._plan = plan
        self._schedule = schedule
        self._dice = dice
        self._groups: dict[str, int] = {}
        self._is_calm = False
        self.counts: Counter[str] = Counter()

    def heal(self) -> None:
        """From now on deliver everything, soon."""
        self._is_calm = True
        self._groups.clear()

    def part(self, groups: dict[str, int]) -> None:
        """Partition the network: only nodes of the same group hear each other."""
        self.counts["partitions"] += 1
        self._groups = groups

    def join(self) -> None:
        """End the partition."""
        self._groups.clear()

    def is_cut(self, one: str, other: str) -> bool:
        """Whether a partition separates the two."""
        return self._groups.get(one) != self._groups.get(other)

    def send(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        """Send a message."""
        plan, dice = self._plan, self._dice
        if self.is_cut(source, target):
            self.counts["cut off"] += 1
            return
        if self._is_calm:
            self._schedule.after(1 + dice.randrange(CALM_DELAY_MS_MAX), deliver)
            return
        if plan.flapping and self._is_dead(source, target):
            self.counts["flapped"] += 1
            return
        if dice.random() < plan.loss:
            self.counts["lost"] += 1
            return
        copies = 2 if dice.random() < plan.duplication else 1
        self.counts["doubled"] += copies - 1
        for _ in range(copies):
            delay_ms = 1 + dice.randrange(plan.delay_ms_max)
            if dice.random() < plan.straggler:
                self.counts["delayed"] += 1
                delay_ms += dice.randrange(plan.straggler_ms_max)
            self._schedule.after(delay_ms, deliver)
            self.counts["delivered"] += 1

    def _is_dead(self, source: str, target: str) -> bool:
        """Whether the direction is dead in this time slot. A hash decides, the same for all messages of a slot."""
        slot = f"{self._plan.seed} {source} {target} {self._schedule.now_ms // FLAP_MS}"
        return zlib.crc32(slot.encode()) < self._plan.flapping * (1 << 32)
