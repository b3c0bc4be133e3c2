"""What a worker shows of an audit: the rows that it computed of inputs the beacon drew, under its key (audits.md)."""

from __future__ import annotations

from proto_specs.codec import U16, record
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.common import ZERO_HASH, Payload, Signature
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import FIRST_PREVIOUS, Leaf, compute_payload_hash, is_output_signed, sign_output

AUDIT_POSITIONS = WINDOW_POSITIONS
"""An audit is one window from position 0."""
AUDIT_BOUNDARY = 1
"""Its input is drawn and not sent, so the output's boundary is the first that a leaf is signed for."""


@record
class AuditAnswer:
    """The wire bytes [AUDIT_POSITIONS, hidden] that layers [start, end) put out, their leaf, the worker's signature."""

    start: U16
    end: U16
    leaf: Leaf
    signature: Signature
    payload: Payload


def make_audit_leaf(subject: bytes, manifest: Manifest, payload: bytes) -> Leaf:
    """The leaf of an answer. `subject` is the `request` of the audit's challenge."""
    return Leaf(
        request=subject,
        boundary=AUDIT_BOUNDARY,
        window=0,
        start=0,
        count=AUDIT_POSITIONS,
        width=manifest.architecture.hidden,
        dtype=manifest.wire_dtype,
        payload_hash=compute_payload_hash(payload),
        trace_hash=ZERO_HASH,
        previous=FIRST_PREVIOUS,
    )


def sign_audit(
    subject: bytes, manifest: Manifest, layers: tuple[int, int], payload: bytes, key: SigningKey
) -> AuditAnswer:
    """The answer under the worker's key."""
    leaf = make_audit_leaf(subject, manifest, payload)
    return AuditAnswer(*layers, leaf, sign_output(leaf, key), payload)


def is_audit_answer(answer: AuditAnswer, subject: bytes, manifest: Manifest, worker: bytes) -> bool:
    """Whether the worker signed exactly this payload as the output of this audit."""
    is_leaf = answer.leaf == make_audit_leaf(subject, manifest, answer.payload)
    return is_leaf and is_output_signed(answer.leaf, worker, answer.signature)


def compute_answer_bytes_max(row_bytes: int) -> int:
    """The most that an answer is encoded as. `row_bytes`: a position's hidden states on the wire."""
    return AUDIT_POSITIONS * row_bytes + 1024
