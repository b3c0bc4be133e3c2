"""Floats of 8 bits, e4m3fn (OCP 8-bit floating point, section 5): the value of every code. Knows no file."""

from __future__ import annotations

import numpy as np

from inference.model.checkpoint.source import Values

NAN_BITS = 127
"""The code of NaN, its sign left out. There are no infinities."""


def _make_values() -> Values:
    codes = np.arange(256)
    exponent, fraction = codes >> 3 & 15, (codes & 7).astype(np.float32)
    normal = np.ldexp(8 + fraction, exponent - 10)
    values = np.where(exponent > 0, normal, np.ldexp(fraction, -9)) * np.where(codes & 128, -1, 1)
    values[codes & 127 == NAN_BITS] = np.nan
    return values.astype(np.float32)


E4M3_VALUES = _make_values()
"""[256] fp32."""
