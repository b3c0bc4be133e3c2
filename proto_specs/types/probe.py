"""The probe: a client or a verifier asks a worker whether it is there; the worker says so under its key.

One small request and answer over PROBE_PROTOCOL. The figures are the worker's own word: a client that measures others
believes what it measured.
"""

from __future__ import annotations

from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U16, U32, U64, Max, encode, record
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.hashing import Tag
from proto_specs.types.common import Hash32, PublicKey, Signature

PROBE_PROTOCOL = "/myelin/probe/1"


@record
class ProbeRequest:
    """Asks whoever listens for a report. The nonce is the asker's: an answer to another one proves nothing."""

    genesis: Hash32
    nonce: Hash32


@record
class WorkerReport:
    """What a worker says of itself. Times are microseconds that its shard takes.

    `decode_us` is of a step with one row, `prefill_us` of one row among many; 0 as long as nothing was measured. KV is
    in positions. `waiting_rows` wait to be computed. `is_leaving`: it takes no new requests.
    """

    genesis: Hash32
    nonce: Hash32
    worker: PublicKey
    peer_id: Annotated[str, Max(limits.PEER_ID_BYTES_MAX)]
    model: Hash32
    start: U16
    end: U16
    height: U64
    decode_us: U32
    prefill_us: U32
    kv_free: U32
    kv_total: U32
    requests: U32
    waiting_rows: U32
    is_leaving: bool


@record
class SignedReport:
    """A report under the worker's key."""

    report: WorkerReport
    signature: Signature


def sign_report(report: WorkerReport, worker_key: SigningKey) -> SignedReport:
    """The report under the worker's key."""
    return SignedReport(report, worker_key.sign(Tag.PROBE_SIGN, encode(report)))


def is_report_signed(signed: SignedReport, worker: bytes) -> bool:
    """Whether the worker signed this report, and it is about itself."""
    report = signed.report
    return report.worker == worker and is_signature_valid(worker, Tag.PROBE_SIGN, encode(report), signed.signature)
