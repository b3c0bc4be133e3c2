"""Asks the workers of models in use again and again whether they are there; what they say goes to the memory."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import trio

from node.client.chain_view import WorkerEntry
from node.client.worker_memory import WorkerMemory
from proto_specs.errors import MyelinError
from proto_specs.types.probe import WorkerReport

PROBE_S = 10.0
JITTER = 0.2
PROBES_AT_ONCE = 8
PROBES_PER_S = 20.0
"""More workers than this allows in PROBE_S are asked less often."""
RETRY_S_MIN = 1.0
RETRY_S_MAX = 60.0
PROBE_TIMEOUT_S = 3.0
TICK_S = 0.25

logger = logging.getLogger("myelin.client")


class ProbeSource(Protocol):
    """How a worker is asked."""

    async def probe(self, entry: WorkerEntry, timeout_s: float) -> tuple[WorkerReport, float]:
        """Its report, and the seconds that question and answer took. Raises a MyelinError when there is none."""


class ProbeRounds:
    """Each worker is asked every PROBE_S; one that is silent sooner at first, then ever more rarely."""

    def __init__(self, memory: WorkerMemory, source: ProbeSource, rng: random.Random | None = None) -> None:
        self._memory = memory
        self._source = source
        self._rng = rng or random.Random()
        self._due_s: dict[bytes, float] = {}
        self._failures: dict[bytes, int] = {}
        self._running: set[bytes] = set()

    async def run(
        self,
        list_workers: Callable[[], Collection[WorkerEntry]],
        note_silent: Callable[[WorkerEntry], Awaitable[None]],
    ) -> None:
        """Ask whoever is listed, until cancelled. `note_silent` is told of each that does not answer."""
        async with trio.open_nursery() as nursery:
            while True:
                entries = {one.worker: one for one in list_workers()}
                self._forget(entries)
                for worker in sorted(entries, key=lambda one: (self._due_s.get(one, 0.0), one)):
                    if self._due_s.get(worker, 0.0) > trio.current_time() or len(self._running) >= PROBES_AT_ONCE:
                        break
                    if worker not in self._running:
                        self._running.add(worker)
                        nursery.start_soon(self._ask, entries[worker], len(entries), note_silent)
                await trio.sleep(TICK_S)

    def hurry(self, worker: bytes) -> None:
        """Ask one as soon as possible: it failed, or is reached elsewhere now."""
        self._due_s.pop(worker, None)
        self._failures.pop(worker, None)

    async def _ask(self, entry: WorkerEntry, count: int, note_silent: Callable[[WorkerEntry], Awaitable[None]]) -> None:
        try:
            report, round_trip_s = await self._source.probe(entry, PROBE_TIMEOUT_S)
        except MyelinError as error:
            logger.debug("worker %s answers no probe: %s", entry.worker.hex()[:12], error.message)
            now_s = trio.current_time()
            self._memory.note_silent(entry.worker, now_s)
            failures = self._failures.get(entry.worker, 0)
            self._failures[entry.worker] = failures + 1
            self._due_s[entry.worker] = now_s + self._vary(min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(failures, 16)))
            await note_silent(entry)
        else:
            now_s = trio.current_time()
            self._memory.note_report(entry.worker, report, round_trip_s, now_s)
            self._failures.pop(entry.worker, None)
            self._due_s[entry.worker] = now_s + self._vary(max(PROBE_S, count / PROBES_PER_S))
        finally:
            self._running.discard(entry.worker)

    def _vary(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1.0 - JITTER, 1.0 + JITTER)

    def _forget(self, entries: Collection[bytes]) -> None:
        for known in (self._due_s, self._failures):
            for worker in [one for one in known if one not in entries]:
                del known[worker]
