"""One signature to check as fixed-size bytes, and a batch of them as a frame: what goes over the pipes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from proto_specs.ed25519 import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, is_digest_signed
from proto_specs.hashing import HASH_BYTES

COUNT = struct.Struct(">I")
JOB_BYTES = PUBLIC_KEY_BYTES + HASH_BYTES + SIGNATURE_BYTES
JOBS_MAX = 4_096
_DIGEST_END = PUBLIC_KEY_BYTES + HASH_BYTES


@dataclass(frozen=True, slots=True)
class SignatureJob:
    """Whether `public_key` signed `digest`, the tagged hash of some payload."""

    public_key: bytes
    digest: bytes
    signature: bytes


def encode_jobs(jobs: Sequence[SignatureJob]) -> bytes:
    """Their count, then key, digest and signature of each."""
    return COUNT.pack(len(jobs)) + b"".join(one.public_key + one.digest + one.signature for one in jobs)


def check_encoded(data: bytes) -> bytes:
    """One byte for each job behind the count: 1 when the signature is valid."""
    answers = bytearray()
    for at in range(0, len(data), JOB_BYTES):
        key, digest = data[at : at + PUBLIC_KEY_BYTES], data[at + PUBLIC_KEY_BYTES : at + _DIGEST_END]
        answers.append(is_digest_signed(key, digest, data[at + _DIGEST_END : at + JOB_BYTES]))
    return bytes(answers)
