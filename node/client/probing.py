"""Asks a worker whether it is there, and believes only what its worker key signed to this very question."""

from __future__ import annotations

import secrets
from typing import Final

import trio

from node.client.chain_view import WorkerEntry
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError, ExitStatus, MyelinError
from proto_specs.types.probe import PROBE_PROTOCOL, ProbeRequest, SignedReport, WorkerReport, is_report_signed

REPORT_BYTES_MAX: Final = 1024
_NONCE_BYTES = 32


class ProbeFailed(MyelinError):
    """A worker does not prove that it is there. The message says how it failed."""

    exit_status = ExitStatus.WORKER_LOST


class WorkerUnreachable(ProbeFailed):
    """Nobody answered the probe at any address of the worker within the time."""


class ReportInvalid(ProbeFailed):
    """What answered is not the worker: another key, an old answer, another chain, model or range."""


async def probe_worker(
    host: P2PHost, entry: WorkerEntry, genesis: bytes, timeout_s: float
) -> tuple[WorkerReport, float]:
    """The worker's report, and the seconds that question and answer took once there was a connection.

    Tries the addresses in their order; `timeout_s` bounds all of it. Raises WorkerUnreachable, ReportInvalid.
    """
    failures: list[str] = []
    invalid: ReportInvalid | None = None
    with trio.move_on_after(timeout_s) as scope:
        for address in entry.addresses:
            try:
                await host.connect(address, timeout_s=timeout_s)
                return await _ask(host, address, entry, genesis, timeout_s)
            except ReportInvalid as error:
                invalid = error
            except (NetworkError, DecodeError) as error:
                failures.append(f"{address}: {error}")
    if invalid is not None:
        raise invalid
    if scope.cancelled_caught:
        failures.append(f"no answer within {timeout_s:g} s")
    what = "; ".join(failures) or "it registered no address"
    raise WorkerUnreachable(f"worker {entry.worker.hex()[:12]} does not answer: {what}")


def check_report(signed: SignedReport, nonce: bytes, entry: WorkerEntry, genesis: bytes) -> WorkerReport:
    """The report, if it answers this nonce for this worker as the chain knows it. Raises ReportInvalid."""
    report, short = signed.report, entry.worker.hex()[:12]
    if not is_report_signed(signed, entry.worker):
        raise ReportInvalid(f"the report is not signed by worker {short}")
    if report.nonce != nonce:
        raise ReportInvalid(f"worker {short} answers another question: its nonce is not ours")
    if report.genesis != genesis:
        raise ReportInvalid(f"worker {short} serves another chain, {report.genesis.hex()[:16]}")
    if (report.model, report.start, report.end) != (entry.model, entry.start, entry.end):
        raise ReportInvalid(
            f"worker {short} serves layers {report.start}:{report.end} of {report.model.hex()[:12]}, "
            f"not {entry.start}:{entry.end} of {entry.model.hex()[:12]} as the chain says"
        )
    return report


async def _ask(
    host: P2PHost, address: str, entry: WorkerEntry, genesis: bytes, timeout_s: float
) -> tuple[WorkerReport, float]:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    began_s = trio.current_time()
    body = encode(ProbeRequest(genesis, nonce))
    answer = await request(
        host, address, PROBE_PROTOCOL, body, timeout_s=timeout_s, max_response_bytes=REPORT_BYTES_MAX
    )
    round_trip_s = trio.current_time() - began_s
    report = check_report(decode(SignedReport, answer, REPORT_BYTES_MAX), nonce, entry, genesis)
    return report, round_trip_s
