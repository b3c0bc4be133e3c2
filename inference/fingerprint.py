"""The distance of claimed rows from recomputed ones, and the projection a verifier publishes. Formulas: fingerprint.md.

All arithmetic is fp64 over fp32 rows; results are integers and integer bytes.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from inference.errors import FingerprintError
from inference.rounding import compute_excess
from proto_specs.limits import FINGERPRINT_BYTES, FINGERPRINT_DIMENSIONS
from proto_specs.types.manifest import WireDtype

PPB = 10**9
DISTANCE_PPB_MAX = 10**12
"""The cap on distances: an error of a thousand times the whole delta needs no finer measure."""

SCALE_FLOOR = 2.0**-4
"""The least scale of a channel as a share of the median channel: near-zero channels would amplify noise."""

HALF_UNIT = 2.0**-24
"""Half a unit in the last place of fp32, relative."""

PROJECTION_UNIT = 2.0**22
"""Fixed-point steps of a projection per standard deviation of a typical bucket."""

_PROJECTION_DOMAIN = b"myelin/projection"
_INT32_MAX = 2**31 - 1

Rows = NDArray[np.float32]
Scale = NDArray[np.float64]
Delta = NDArray[np.float64]


def compute_delta(output: Rows, entered: Rows) -> Delta:
    """Output minus input of a shard, [n,C] fp64. Raises FingerprintError: unequal shapes, NaN, infinity."""
    if output.ndim != 2 or output.shape != entered.shape or not output.size:
        raise FingerprintError(f"rows are two equal [n,C], not {list(output.shape)} and {list(entered.shape)}")
    if not (np.isfinite(output).all() and np.isfinite(entered).all()):
        raise FingerprintError("rows hold NaN or infinity: they match nothing")
    return output.astype(np.float64) - entered.astype(np.float64)


def compute_scale(delta_prefix: Delta) -> Scale:
    """Per-channel RMS [C] of the verifier's own delta over positions 0..end, [P,C], floored.

    Raises FingerprintError for a delta that is zero everywhere: such a shard computed nothing.
    """
    rms = np.sqrt(np.mean(np.square(delta_prefix), axis=0))
    floor = SCALE_FLOOR * (float(np.median(rms)) or float(rms.max()))
    if floor == 0.0:
        raise FingerprintError("the recomputed delta is zero in every channel")
    scale: Scale = np.maximum(rms, floor)
    return scale


def compute_distance(claimed_out: Rows, own_out: Rows, own_in: Rows, scale: Scale, wire_dtype: WireDtype) -> int:
    """dl_rel of a window in parts per billion, rounded up: the error over |own delta|, channels scaled.

    `own_out` is as recomputed, unrounded; `claimed_out` are values of `wire_dtype`. An error is what of the distance
    between them the rounding of the wire does not explain, so rows equal to the rounded own ones have distance 0.
    Raises FingerprintError for unequal shapes, NaN or infinity, which therefore never match.
    """
    compute_delta(claimed_out, own_out)  # refuses what are no rows
    error = compute_excess(claimed_out, own_out, wire_dtype) / scale
    size = float(np.sum(np.square(compute_delta(own_out, own_in) / scale)))
    if size == 0.0:
        raise FingerprintError("the recomputed delta of the window is zero")
    relative = math.sqrt(float(np.sum(np.square(error))) / size)
    return min(math.ceil(relative * PPB), DISTANCE_PPB_MAX)


def compute_rounding(own_out: Rows, own_in: Rows, scale: Scale, roundings: int) -> int:
    """What of a window's distance `roundings` fp32 roundings of sums as large as its rows may make, in ppb, rounded up.

    A sum is off by half a unit in the last place at most, 2^-24 of its size. On rows of the usual size that is below
    any threshold; on much larger ones it is all there is to the difference between two honest machines.
    """
    larger = np.maximum(np.abs(own_out), np.abs(own_in)).astype(np.float64)
    error = roundings * HALF_UNIT * larger / scale
    size = float(np.sum(np.square(compute_delta(own_out, own_in) / scale)))
    if size == 0.0:
        raise FingerprintError("the recomputed delta of the window is zero")
    return min(math.ceil(math.sqrt(float(np.sum(np.square(error))) / size) * PPB), DISTANCE_PPB_MAX)


def compute_projection(delta: Delta, scale: Scale, seed: bytes) -> bytes:
    """The published fingerprint: a 256-dimension count sketch of the scaled window delta [n,C], int32 little-endian.

    Element e = row * C + channel adds its scaled value, with a sign, to a bucket; sign and bucket come from 16 bits of
    SHAKE-256 over the seed (known only after the commitment). Values beyond int32 saturate.
    """
    if len(seed) != 32:
        raise FingerprintError(f"a projection seed has 32 bytes, not {len(seed)}")
    rows, channels = delta.shape
    count = rows * channels
    head = _PROJECTION_DOMAIN + seed + rows.to_bytes(4, "little") + channels.to_bytes(4, "little")
    draws = np.frombuffer(hashlib.shake_256(head).digest(2 * count), dtype="<u2")
    signed = np.where(draws & 0x8000, -1.0, 1.0) * (delta / scale).reshape(-1)
    buckets = np.bincount(draws & 0xFF, weights=signed, minlength=FINGERPRINT_DIMENSIONS)
    unit = PROJECTION_UNIT / math.sqrt(max(1.0, count / FINGERPRINT_DIMENSIONS))
    data: bytes = np.clip(np.rint(buckets * unit), -_INT32_MAX, _INT32_MAX).astype("<i4").tobytes()
    return data


def compute_projection_distance(one: bytes, other: bytes) -> int:
    """Relative distance of two projections in parts per billion, rounded up; symmetric and in integers alone.

    sqrt(sum (a - b)^2 / min(sum a^2, sum b^2)), capped. An all-zero projection matches nothing: it was not computed.
    Raises FingerprintError unless both have FINGERPRINT_BYTES.
    """
    if len(one) != FINGERPRINT_BYTES or len(other) != FINGERPRINT_BYTES:
        raise FingerprintError(f"a projection has {FINGERPRINT_BYTES} bytes, not {len(one)} and {len(other)}")
    a = [int(value) for value in np.frombuffer(one, dtype="<i4")]
    b = [int(value) for value in np.frombuffer(other, dtype="<i4")]
    size = min(sum(x * x for x in a), sum(y * y for y in b))
    if size == 0:
        return DISTANCE_PPB_MAX
    apart = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    square = -(-apart * PPB * PPB // size)
    return min(math.isqrt(square - 1) + 1 if square else 0, DISTANCE_PPB_MAX)
