"""The rounding cell of a value on the wire: the numbers its dtype rounds to it. Formulas: fingerprint.md, section 3.

Cells of one dtype cover the line without overlap, so rows sent as rounded lie in their cells, exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.errors import FingerprintError
from proto_specs.types.manifest import WireDtype

Rows = NDArray[np.float32]
Excess = NDArray[np.float64]


class _Format(NamedTuple):
    """A binary format: bits of the significand, the hidden one included, and exponents of the normal numbers."""

    precision: int
    exponent_min: int
    exponent_max: int


_FORMATS = {WireDtype.FP16: _Format(11, -14, 15), WireDtype.BF16: _Format(8, -126, 127)}


def compute_excess(claimed: Rows, own: Rows, dtype: WireDtype) -> Excess:
    """How far each finite fp32 `own` lies outside the rounding cell of `claimed`, in fp64; shapes are equal.

    0 wherever `own` rounds to `claimed` (to nearest, ties to even), and at the other end of a tie. For fp32 the cell is
    the value itself. Raises FingerprintError when a claimed value is none of the dtype.
    """
    if dtype is WireDtype.FP32:
        apart: Excess = np.abs(claimed.astype(np.float64) - own)
        return apart
    # Measured outwards from zero, so that one formula serves both signs. Every bound is exact in fp64.
    size = np.abs(claimed).astype(np.float64)
    along = np.where(claimed < 0, -1.0, 1.0) * own
    outward, inward = _compute_half_steps(size, _FORMATS[dtype], dtype)
    excess: Excess = np.maximum(np.maximum((size - inward) - along, along - (size + outward)), 0.0)
    return excess


def _compute_half_steps(size: Excess, form: _Format, dtype: WireDtype) -> tuple[Excess, Excess]:
    """Half the spacing above and below each magnitude: below a power of two it is half that above."""
    fraction, exponent = np.frexp(size)  # size = fraction * 2^exponent, fraction in [1/2, 1)
    exponent = np.where(size == 0.0, form.exponent_min, np.maximum(exponent - 1, form.exponent_min))
    step = np.ldexp(1.0, exponent - (form.precision - 1))
    if (exponent > form.exponent_max).any() or (np.fmod(size, step) != 0.0).any():
        raise FingerprintError(f"claimed rows hold values that {dtype.name.lower()} does not have: decode them first")
    is_edge = (fraction == 0.5) & (exponent > form.exponent_min)
    return step / 2.0, np.where(is_edge, step / 4.0, step / 2.0)
