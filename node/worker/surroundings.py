"""What a worker sees of the others of its model: whom the chain lists, who answers a probe, and what they say."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from inference.placement import HeldRange
from node.client.chain_view import WorkerEntry
from node.client.probing import ProbeFailed, probe_worker
from node.client.rpc_chain import RpcChain
from node.p2p.host import P2PHost
from proto_specs.types.probe import WorkerReport

PROBE_TIMEOUT_S = 3.0
PROBES_AT_ONCE = 16
PROBES_MAX = 256
"""So many are asked; which ones, the asker's key draws. Of the rest the chain's word counts: whoever is away is marked
absent there."""

Probe = Callable[[WorkerEntry], Awaitable[WorkerReport | None]]

logger = logging.getLogger("myelin.worker")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The others. `listed` are active on chain, of whom `silent` were asked and did not answer."""

    held: tuple[HeldRange, ...]
    listed: tuple[WorkerEntry, ...]
    silent: tuple[bytes, ...]


def make_probe(host: P2PHost, genesis: bytes) -> Probe:
    """Probes over a host: None for whoever does not prove that it serves."""

    async def probe(entry: WorkerEntry) -> WorkerReport | None:
        try:
            report, _ = await probe_worker(host, entry, genesis, PROBE_TIMEOUT_S)
        except ProbeFailed as error:
            logger.debug("%s", error.message)
            return None
        return report

    return probe


async def look_around(chain: RpcChain, model: bytes, own: bytes, probe: Probe) -> Surroundings:
    """The other active workers of a model, without those who leave or do not answer. Raises ChainUnreachable."""
    await chain.get_height()  # what is asked after it is read anew
    workers = await chain.list_workers(model)
    listed = tuple(one for one in workers if one.is_active and one.worker != own)
    asked = sorted(listed, key=lambda one: hashlib.blake2b(own + one.worker).digest())[:PROBES_MAX]
    reports: dict[bytes, WorkerReport | None] = {}
    limiter = trio.CapacityLimiter(PROBES_AT_ONCE)

    async def ask(entry: WorkerEntry) -> None:
        async with limiter:
            reports[entry.worker] = await probe(entry)

    async with trio.open_nursery() as nursery:
        for one in asked:
            nursery.start_soon(ask, one)
    held = []
    for one in listed:
        report = reports.get(one.worker)
        if one.worker not in reports or (report is not None and not report.is_leaving):
            held.append(make_held(one, report))
    silent = tuple(key for key, report in sorted(reports.items()) if report is None)
    return Surroundings(tuple(held), listed, silent)


def make_held(entry: WorkerEntry, report: WorkerReport | None) -> HeldRange:
    """A worker's range with what it says of itself; a step's time is that of all its layers."""
    decode_us = 0 if report is None else report.decode_us
    return HeldRange(
        worker=entry.worker,
        start=entry.start,
        end=entry.end,
        layer_us=-(-decode_us // (entry.end - entry.start)),
        kv_positions=0 if report is None else report.kv_total,
        price=max(entry.prefill_price, entry.decode_price),
        gross_max=entry.gross_max,
    )
