"""The probe over real libp2p: a worker answers for itself, and nothing else is taken for its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from node.client.chain_view import WorkerEntry
from node.client.probing import ReportInvalid, WorkerUnreachable, check_report, probe_worker
from node.p2p.errors import RequestRefused
from node.p2p.host import P2PHost, open_host
from node.p2p.request import request
from node.worker.compute import ComputeLoad
from node.worker.presence import Presence
from node.worker.probe import PROBES_BURST, PROBES_PER_S, Prober, serve_probes
from proto_specs.codec import decode, encode
from proto_specs.ed25519 import SigningKey
from proto_specs.types.probe import PROBE_PROTOCOL, ProbeRequest, SignedReport
from tests.unit.node.worker.world import make_chain

GENESIS = b"g" * 32
KEY = SigningKey.from_seed(b"w" * 32)
LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]


class FixedLoad:
    def read_load(self) -> ComputeLoad:
        return ComputeLoad(11, 12, 13, 14, 15)


def make_entry(addresses: tuple[str, ...]) -> WorkerEntry:
    known = next(iter(make_chain().workers.values()))
    return replace(known, worker=KEY.public_key, addresses=addresses)


@asynccontextmanager
async def run_worker(presence: Presence, genesis: bytes = GENESIS) -> AsyncIterator[tuple[P2PHost, WorkerEntry]]:
    async with open_host(b"h" * 32, LOOPBACK) as host, open_host(b"a" * 32, []) as asker:
        entry = make_entry(tuple(host.addresses))
        prober = Prober(entry, host.peer_id, genesis, KEY, FixedLoad(), presence, lambda: 7)  # type: ignore[arg-type]
        serve_probes(host, prober)
        yield asker, entry


async def test_a_worker_reports_itself() -> None:
    presence = Presence(height=42)
    async with run_worker(presence) as (asker, entry):
        report, round_trip_s = await probe_worker(asker, entry, GENESIS, 5.0)
        assert (report.worker, report.height, report.requests, report.is_leaving) == (KEY.public_key, 42, 7, False)
        assert (report.decode_us, report.prefill_us) == (11, 12)
        assert (report.kv_free, report.kv_total, report.waiting_rows) == (13, 14, 15)
        assert 0 < round_trip_s < 5
        presence.leaving = "it was told to"
        assert (await probe_worker(asker, entry, GENESIS, 5.0))[0].is_leaving


async def test_another_worker_range_or_chain_is_no_answer() -> None:
    async with run_worker(Presence()) as (asker, entry):
        other = SigningKey.from_seed(b"o" * 32).public_key
        with pytest.raises(ReportInvalid, match="not signed by worker"):
            await probe_worker(asker, replace(entry, worker=other), GENESIS, 5.0)
        with pytest.raises(ReportInvalid, match="serves layers"):
            await probe_worker(asker, replace(entry, end=entry.end + 1), GENESIS, 5.0)
        with pytest.raises(WorkerUnreachable, match="this worker serves chain"):
            await probe_worker(asker, entry, bytes(32), 5.0)


async def test_an_old_answer_and_a_foreign_signature_are_refused() -> None:
    async with run_worker(Presence()) as (asker, entry):
        body = encode(ProbeRequest(GENESIS, b"1" * 32))
        signed = decode(SignedReport, await request(asker, entry.addresses[0], PROBE_PROTOCOL, body))
        assert check_report(signed, b"1" * 32, entry, GENESIS) == signed.report
        with pytest.raises(ReportInvalid, match="nonce"):
            check_report(signed, b"2" * 32, entry, GENESIS)
        changed = replace(signed, report=replace(signed.report, kv_free=99))
        with pytest.raises(ReportInvalid, match="not signed"):
            check_report(changed, b"1" * 32, entry, GENESIS)


async def test_nobody_there_is_told_within_the_time() -> None:
    async with open_host(b"a" * 32, []) as asker:
        nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
        with trio.fail_after(5):
            with pytest.raises(WorkerUnreachable, match="does not answer"):
                await probe_worker(asker, make_entry((nobody,)), GENESIS, 1.0)
            with pytest.raises(WorkerUnreachable, match="no address"):
                await probe_worker(asker, make_entry(()), GENESIS, 1.0)


async def test_a_peer_that_asks_without_end_waits() -> None:
    asks = int(PROBES_BURST) + 6
    async with run_worker(Presence()) as (asker, entry):
        body, began_s = encode(ProbeRequest(GENESIS, bytes(32))), trio.current_time()
        for _ in range(asks):
            await request(asker, entry.addresses[0], PROBE_PROTOCOL, body)
        assert trio.current_time() - began_s >= (asks - PROBES_BURST - 1) / PROBES_PER_S


async def test_garbage_is_refused() -> None:
    async with run_worker(Presence()) as (asker, entry):
        with pytest.raises(RequestRefused, match="DecodeError"):
            await request(asker, entry.addresses[0], PROBE_PROTOCOL, b"\xc1")
