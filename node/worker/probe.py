"""Answers probes: who this worker is, how fast, how full. It costs one signature: no model runs, no chain is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.client.chain_view import WorkerEntry
from node.p2p.host import P2PHost
from node.p2p.request import serve_requests
from node.worker.compute import ComputeLoop
from node.worker.presence import Presence
from proto_specs.codec import decode, encode
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import ProtocolError
from proto_specs.types.probe import PROBE_PROTOCOL, ProbeRequest, WorkerReport, sign_report

PROBE_BYTES_MAX: Final = 256
PROBE_STREAMS_PER_PEER_MAX: Final = 4
PROBE_TIMEOUT_S: Final = 10.0
PROBES_PER_S: Final = 5.0
PROBES_BURST: Final = 50.0
"""Of each peer. There is no bound for all together: a flood from many peers must not make this worker seem absent."""
_U32_MAX = 2**32 - 1


class ForeignProbe(ProtocolError):
    """The probe is for another chain."""


class Prober:
    """Makes this worker's reports."""

    def __init__(
        self,
        entry: WorkerEntry,
        peer_id: str,
        genesis: bytes,
        worker_key: SigningKey,
        compute: ComputeLoop,
        presence: Presence,
        count_requests: Callable[[], int],
    ) -> None:
        self._entry = entry
        self._peer_id = peer_id
        self._genesis = genesis
        self._worker_key = worker_key
        self._compute = compute
        self._presence = presence
        self._count_requests = count_requests

    def answer(self, body: bytes) -> bytes:
        """An encoded ProbeRequest to an encoded SignedReport. Raises DecodeError for garbage, ForeignProbe."""
        asked = decode(ProbeRequest, body, PROBE_BYTES_MAX)
        if asked.genesis != self._genesis:
            raise ForeignProbe(f"this worker serves chain {self._genesis.hex()[:16]}")
        load = self._compute.read_load()
        report = WorkerReport(
            genesis=self._genesis,
            nonce=asked.nonce,
            worker=self._worker_key.public_key,
            peer_id=self._peer_id,
            model=self._entry.model,
            start=self._entry.start,
            end=self._entry.end,
            height=self._presence.height,
            decode_us=load.decode_us,
            prefill_us=load.prefill_us,
            kv_free=min(load.kv_free, _U32_MAX),
            kv_total=min(load.kv_total, _U32_MAX),
            requests=self._count_requests(),
            waiting_rows=min(load.waiting_rows, _U32_MAX),
            is_leaving=self._presence.leaving is not None,
        )
        return encode(sign_report(report, self._worker_key))


def serve_probes(host: P2PHost, prober: Prober) -> None:
    """Answer whoever asks whether this worker is there."""

    async def answer(body: bytes, _peer: str) -> bytes:
        return prober.answer(body)

    serve_requests(
        host,
        PROBE_PROTOCOL,
        answer,
        max_request_bytes=PROBE_BYTES_MAX,
        max_streams_per_peer=PROBE_STREAMS_PER_PEER_MAX,
        timeout_s=PROBE_TIMEOUT_S,
        requests_per_s=PROBES_PER_S,
        requests_burst=PROBES_BURST,
    )
