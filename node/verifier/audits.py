"""Audits seen by a verifier: the answer of a worker, fetched and authenticated. What it has to be is in judge.py."""

from __future__ import annotations

from typing import Final

from consensus.runtime.inference.state import Challenge
from inference.serving.opening import OpeningError
from node.client.chain_view import WorkerEntry
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request as ask_peer
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.types.audit import AuditAnswer, compute_answer_bytes_max, is_audit_answer
from proto_specs.types.manifest import Manifest, WireDtype
from proto_specs.types.request import OpeningRequest
from proto_specs.types.wire import OPENING_PROTOCOL

ADDRESS_TIMEOUT_S: Final = 5.0


def compute_audit_bytes_max(manifest: Manifest) -> int:
    """The most that a worker's answer has."""
    return compute_answer_bytes_max(manifest.architecture.hidden * WireDtype(manifest.wire_dtype).item_bytes)


async def fetch_audit_answer(
    host: P2PHost, challenge: Challenge, worker: WorkerEntry, manifest: Manifest
) -> AuditAnswer:
    """Ask the audited worker at every address it registered. Raises OpeningError when none gives a valid answer."""
    most = compute_audit_bytes_max(manifest)
    body = encode(OpeningRequest(challenge.request, challenge.stage, challenge.window))
    failures: list[str] = []
    for address in worker.addresses:
        try:
            data = await ask_peer(
                host, address, OPENING_PROTOCOL, body, timeout_s=ADDRESS_TIMEOUT_S, max_response_bytes=most
            )
            answer = decode(AuditAnswer, data, most)
        except (NetworkError, ProtocolError) as error:
            failures.append(f"{address}: {error}")
            continue
        if not is_audit_answer(answer, challenge.request, manifest, challenge.worker):
            failures.append(f"{address}: the answer is not signed by the worker, or of another audit")
        elif (answer.start, answer.end) != (worker.start, worker.end):
            failures.append(f"{address}: layers {answer.start}:{answer.end} were computed, others are registered")
        else:
            return answer
    raise OpeningError("; ".join(failures) or "the worker registered no address")
