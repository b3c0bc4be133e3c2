"""Rounding to a 16-bit wire and its cells the slow way: every code of the format listed, exact fractions."""

from __future__ import annotations

import bisect
import functools
import struct
from fractions import Fraction

from proto_specs.types.manifest import WireDtype

LARGEST = {WireDtype.FP16: 0x7BFF, WireDtype.BF16: 0x7F7F}
"""The code of the largest finite value."""

SIGN = 0x8000


def read_code(code: int, dtype: WireDtype) -> float:
    """The value of a 16-bit code."""
    data = struct.pack("<H", code)
    value: float = (struct.unpack("<e", data) if dtype is WireDtype.FP16 else struct.unpack("<f", b"\0\0" + data))[0]
    return value


@functools.cache
def list_magnitudes(dtype: WireDtype) -> list[Fraction]:
    """Values of the codes 0, 1, ..., and, past the largest, the one that would follow."""
    values = [Fraction(read_code(code, dtype)) for code in range(LARGEST[dtype] + 1)]
    return [*values, 2 * values[-1] - values[-2]]


def round_plainly(value: float, dtype: WireDtype) -> int | None:
    """The code that `value` rounds to, ties to the even one; None where it overflows."""
    known, size = list_magnitudes(dtype), abs(Fraction(value))
    above = bisect.bisect_left(known, size)
    if above == len(known):
        return None
    code = above
    if above and known[above] != size:
        middle = (known[above - 1] + known[above]) / 2
        if size < middle or (size == middle and above % 2):
            code = above - 1
    return None if code > LARGEST[dtype] else code | (SIGN if str(value).startswith("-") else 0)


def compute_cell(code: int, dtype: WireDtype) -> tuple[Fraction, Fraction]:
    """The least and the greatest number that may round to the code's value."""
    known, place = list_magnitudes(dtype), code & ~SIGN
    high = (known[place] + known[place + 1]) / 2
    low = (known[place - 1] + known[place]) / 2 if place else -high
    return (-high, -low) if code & SIGN else (low, high)


def compute_excess_plainly(code: int, own: float, dtype: WireDtype) -> Fraction:
    """How far `own` lies outside the cell."""
    low, high = compute_cell(code, dtype)
    return max(low - Fraction(own), Fraction(own) - high, Fraction(0))
