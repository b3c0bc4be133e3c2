"""A simulated gateway: the product's routes and memory, and its probes as events.

`Routes`, `WorkerMemory` and `PathSight` are the product's. The loop of `ProbeRounds`, which sleeps and dials, is told
here once more as events, with the same periods, limits and backoff.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping

from node.client.chain_view import WorkerEntry
from node.client.probe_rounds import (
    JITTER,
    PROBE_S,
    PROBE_TIMEOUT_S,
    PROBES_AT_ONCE,
    PROBES_PER_S,
    RETRY_S_MAX,
    RETRY_S_MIN,
    TICK_S,
)
from node.client.routes import Routes
from node.client.worker_memory import WorkerMemory
from node.sim.network.chain import ListedWorkers
from node.sim.network.events import VirtualTime, finish
from node.sim.network.workers import SimWorker
from node.sim.network.world import Spot, WorldPlan


class SimGateway:
    """One of them, in its place."""

    def __init__(
        self,
        virtual: VirtualTime,
        rng: random.Random,
        plan: WorldPlan,
        spot: Spot,
        chain: ListedWorkers,
        workers: Mapping[bytes, SimWorker],
    ) -> None:
        self.spot = spot
        self.memory = WorkerMemory()
        self.routes = Routes(chain, self.memory)
        self._virtual, self._rng, self._plan, self._chain, self._workers = virtual, rng, plan, chain, workers
        self._due: list[tuple[float, bytes]] = []
        self._due_s: dict[bytes, float] = {}
        self._failures: dict[bytes, int] = {}
        self._running = 0

    def start(self) -> None:
        """Ask the workers from now on."""
        self.note_block(0)
        self._tick()

    def note_block(self, height: int) -> None:
        """The chain's list has changed."""
        finish(self.routes.refresh(height))
        for one in self._chain.list_now():
            if one.is_active and one.worker not in self._due_s:
                self._schedule(one.worker, 0.0)

    def hurry(self, worker: bytes) -> None:
        """Ask one as soon as possible: it has failed."""
        self._failures.pop(worker, None)
        self._schedule(worker, 0.0)

    def _schedule(self, worker: bytes, delay_s: float) -> None:
        due_s = self._virtual.now_s + delay_s
        self._due_s[worker] = due_s
        heapq.heappush(self._due, (due_s, worker))

    def _tick(self) -> None:
        self._virtual.after(TICK_S, self._tick)
        while self._due and self._due[0][0] <= self._virtual.now_s and self._running < PROBES_AT_ONCE:
            due_s, worker = heapq.heappop(self._due)
            if self._due_s.get(worker) != due_s:
                continue
            entry = self._chain.get_entry(worker)
            if entry is None or not entry.is_active:
                del self._due_s[worker]
                continue
            self._ask(entry)

    def _ask(self, entry: WorkerEntry) -> None:
        self._running += 1
        self._due_s[entry.worker] = float("inf")
        found = self._workers.get(entry.worker)
        if found is None or not found.is_reachable:
            # A dead process refuses at once; one that is silent lets the question wait.
            self._virtual.after(PROBE_TIMEOUT_S, self._miss, entry.worker)
            return
        way_s = self.spot.compute_way_s(found.rig.spot)
        round_trip_s = way_s * (2.0 + self._rng.expovariate(1.0) * 0.1)
        self._virtual.after(round_trip_s, self._hear, entry, found, round_trip_s)

    def _hear(self, entry: WorkerEntry, found: SimWorker, round_trip_s: float) -> None:
        if not found.is_reachable or (found.start, found.end) != (entry.start, entry.end):
            self._miss(entry.worker)
            return
        self._running -= 1
        self._failures.pop(entry.worker, None)
        self.memory.note_report(entry.worker, found.report(self._plan.lie_factor), round_trip_s, self._virtual.now_s)
        self._schedule(entry.worker, self._vary(max(PROBE_S, len(self._due_s) / PROBES_PER_S)))

    def _miss(self, worker: bytes) -> None:
        self._running -= 1
        self.memory.note_silent(worker, self._virtual.now_s)
        failures = self._failures.get(worker, 0)
        self._failures[worker] = failures + 1
        self._schedule(worker, self._vary(min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(failures, 16))))

    def _vary(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1.0 - JITTER, 1.0 + JITTER)
