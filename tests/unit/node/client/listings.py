"""A chain that lists workers of one model, and workers that answer probes, for tests of routes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import trio

from node.client.answer import Ask
from node.client.chain_view import ChainUnreachable, WorkerEntry
from node.client.probing import WorkerUnreachable
from proto_specs.types.probe import WorkerReport
from proto_specs.types.sampling import SamplingParams
from tests.property.inference.serving.harness import LAYERS, make_manifest

MODEL = bytes(32)
GREEDY = SamplingParams(0, 0, 1000, 0)
ASK = Ask(MODEL, tuple(range(1, 21)), 20, GREEDY, 10)


def make_key(name: str) -> bytes:
    return name.encode().ljust(32, b"_")


def make_entry(name: str, start: int = 0, end: int = LAYERS, price: int = 1, **changes: Any) -> WorkerEntry:
    address = (f"/dns4/{name}/tcp/1",)
    entry = WorkerEntry(
        make_key(name), bytes(32), MODEL, start, end, 10**9, 10**9, name, address, price, price, True, False
    )
    return dataclasses.replace(entry, **changes)


def make_report(worker: bytes, **changes: Any) -> WorkerReport:
    report = WorkerReport(
        genesis=bytes(32),
        nonce=bytes(32),
        worker=worker,
        peer_id="peer",
        model=MODEL,
        start=0,
        end=LAYERS,
        height=1,
        decode_us=1_000,
        prefill_us=100,
        kv_free=10_000,
        kv_total=10_000,
        requests=0,
        waiting_rows=0,
        is_leaving=False,
    )
    return dataclasses.replace(report, **changes)


@dataclass
class ListingChain:
    """`WorkerSource` whose block stands until a test moves it."""

    workers: dict[bytes, WorkerEntry] = field(default_factory=dict)
    height: int = 1
    lists: int = 0
    is_away: bool = False

    async def get_height(self) -> int:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise ChainUnreachable("the node is away")
        return self.height

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        await trio.lowlevel.checkpoint()
        self.lists += 1
        return tuple(self.workers.values())

    async def get_manifest(self, model: bytes) -> Any:
        return make_manifest() if model == MODEL else None

    def add(self, name: str, start: int = 0, end: int = LAYERS, price: int = 1, **changes: Any) -> bytes:
        entry = make_entry(name, start, end, price, **changes)
        self.workers[entry.worker] = entry
        return entry.worker

    def move(self, worker: bytes, address: str) -> None:
        self.workers[worker] = dataclasses.replace(self.workers[worker], addresses=(address,))


@dataclass
class ScriptedProbes:
    """`ProbeSource` of workers that answer after a time, unless their address is dead."""

    reports: dict[bytes, WorkerReport] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    takes_s: float = 0.01
    asked: list[tuple[float, bytes]] = field(default_factory=list)
    running: int = 0
    running_max: int = 0

    async def probe(self, entry: WorkerEntry, timeout_s: float) -> tuple[WorkerReport, float]:
        self.asked.append((trio.current_time(), entry.worker))
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            await trio.sleep(self.takes_s)
        finally:
            self.running -= 1
        if self.dead & set(entry.addresses):
            raise WorkerUnreachable(f"{entry.peer_id} does not answer")
        return self.reports.get(entry.worker, make_report(entry.worker)), self.takes_s

    def get_times(self, worker: bytes) -> list[float]:
        return [at for at, one in self.asked if one == worker]
