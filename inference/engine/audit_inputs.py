"""The inputs of an audit: drawn from its subject, which nobody knew before, over the model's golden rows. audits.md.

Every element is a few fp32 operations in a fixed order, each rounded to nearest even: the same bits on every machine.
"""

from __future__ import annotations

import hashlib

import numpy as np

from inference.engine.golden import GOLDEN_POSITIONS, read_golden
from inference.engine.rows import Hidden, Rows, Tokens
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import UnjudgeableError
from inference.model.store import ShardStore
from proto_specs.types.audit import AUDIT_POSITIONS
from proto_specs.types.manifest import Manifest, WireDtype

_DOMAIN = b"myelin/audit"
_MIX_BYTES = 4
_MIX_STEPS = 256
_NOISE = np.float32(0.125)
_TOKEN_BYTES = 8


def draw_tokens(subject: bytes, vocab: int) -> Tokens:
    """[AUDIT_POSITIONS] token ids below `vocab`: 8 bytes of SHAKE-256 each, little-endian, modulo `vocab`."""
    drawn = np.frombuffer(hashlib.shake_256(_DOMAIN + subject).digest(_TOKEN_BYTES * AUDIT_POSITIONS), dtype="<u8")
    return (drawn % vocab).astype(np.uint32)


def draw_rows(subject: bytes, golden: Hidden, dtype: WireDtype) -> Hidden:
    """[AUDIT_POSITIONS, C] rows like those of a boundary with these golden ones, [GOLDEN_POSITIONS, C], in `dtype`.

    Each is a mixture of two golden rows, an eighth of a third added with a sign drawn for each element: so rows are
    of the boundary's size, channel by channel, and none of what was computed for an audit helps in the next.
    Raises WireDtypeError where the dtype cannot hold one.
    """
    width = golden.shape[1]
    sign_bytes = -(-width // 8)
    stream = hashlib.shake_256(_DOMAIN + subject).digest(AUDIT_POSITIONS * (_MIX_BYTES + sign_bytes))
    heads = np.frombuffer(stream[: AUDIT_POSITIONS * _MIX_BYTES], np.uint8).reshape(AUDIT_POSITIONS, _MIX_BYTES)
    bits = np.frombuffer(stream[AUDIT_POSITIONS * _MIX_BYTES :], np.uint8).reshape(AUDIT_POSITIONS, sign_bytes)
    first, second, third = (1 + heads[:, at].astype(np.int64) % (GOLDEN_POSITIONS - 1) for at in range(3))
    first[0] = second[0] = 0  # a model has its sink at position 0: rows of other positions do not look like it
    share = (heads[:, 3:].astype(np.float32) / np.float32(_MIX_STEPS)).astype(np.float32)
    signs = np.unpackbits(bits, axis=1, count=width, bitorder="little")
    mixed = share * golden[first] + (np.float32(1) - share) * golden[second]
    noise = _NOISE * golden[third]
    rows = mixed + np.where(signs == 1, -noise, noise)
    return decode_rows(encode_rows(rows.astype(np.float32), dtype), dtype, width)


def make_audit_inputs(store: ShardStore, model_id: bytes, manifest: Manifest, start: int, subject: bytes) -> Rows:
    """What a shard from layer `start` on is given. Raises StoreError when the golden rows are not here or damaged,
    UnjudgeableError for a model that has none."""
    if start == 0:
        return draw_tokens(subject, manifest.architecture.vocab)
    if not manifest.ranges:
        raise UnjudgeableError(f"{manifest.name} has no golden windows: its later layers cannot be audited")
    golden = read_golden(store, model_id, manifest, start).astype(np.float32, copy=False)
    return draw_rows(subject, golden, WireDtype(manifest.wire_dtype))
