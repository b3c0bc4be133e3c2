"""Rounding cells against golden vectors, against every code listed, and against what the wire's encoder does."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proto_specs
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import FingerprintError, WireDtypeError
from inference.rounding import compute_excess
from proto_specs.types.manifest import WireDtype
from tests.unit.inference.plain_cells import LARGEST, compute_cell, compute_excess_plainly, read_code, round_plainly

VECTORS = json.loads((Path(proto_specs.__file__).parent / "vectors" / "fingerprint.json").read_text())
NARROW = (WireDtype.FP16, WireDtype.BF16)
EDGE_CODES = {
    WireDtype.FP16: (0, 1, 2, 0x3FF, 0x400, 0x401, 0x3BFF, 0x3C00, 0x3C01, 0x7BFE, 0x7BFF),
    WireDtype.BF16: (0, 1, 2, 0x7F, 0x80, 0x81, 0x3F7F, 0x3F80, 0x3F81, 0x7F7E, 0x7F7F),
}
"""Zero, subnormals, the least normal number, powers of two and their neighbours, the largest values."""


def _measure(claimed: float, own: float, dtype: WireDtype) -> float:
    return float(compute_excess(np.float32([[claimed]]), np.float32([[own]]), dtype)[0, 0])


def _find_neighbours(value: float) -> list[float]:
    """The fp32 number nearest to `value` (which may be none) and the two on either side."""
    middle = np.float32(value)
    return [float(one) for one in (np.nextafter(middle, -np.inf), middle, np.nextafter(middle, np.inf))]


@pytest.mark.parametrize("dtype", NARROW)
def test_cell_vectors(dtype: WireDtype) -> None:
    cases: list[dict[str, Any]] = [one for one in VECTORS["cells"] if one["wire_dtype"] == dtype.name.lower()]
    assert len(cases) > 60
    for case in cases:
        (code,) = struct.unpack("<H", bytes.fromhex(case["claimed"]))
        own, low, high = (struct.unpack("<d", bytes.fromhex(case[key]))[0] for key in ("own", "low", "high"))
        assert compute_cell(code, dtype) == (low, high)
        assert compute_excess_plainly(code, own, dtype) == pytest.approx(
            float.fromhex(case["excess"]), rel=1e-15, abs=0
        )
        assert _measure(read_code(code, dtype), own, dtype) == float.fromhex(case["excess"])


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("sign", [0, 0x8000])
def test_cells_end_where_rounding_ends_to_the_last_bit(dtype: WireDtype, sign: int) -> None:
    """Around both ends of every special value's cell: 0 iff the encoder rounds there, or a tie's other end."""
    for code in EDGE_CODES[dtype]:
        value = read_code(code | sign, dtype)
        ends = [float(one) for one in compute_cell(code | sign, dtype)]
        for own in (one for end in ends for one in _find_neighbours(end)):
            try:
                rounded = decode_rows(encode_rows(np.float32([[own]]), dtype), dtype, 1)[0, 0]
            except WireDtypeError:
                assert code == LARGEST[dtype]
                continue
            excess = _measure(value, own, dtype)
            assert (excess == 0.0) == (rounded == value or own in ends)
            assert excess == compute_excess_plainly(code | sign, own, dtype)


@pytest.mark.parametrize("dtype", NARROW)
@given(bits=st.integers(0, 2**32 - 1))
def test_every_number_lies_in_the_cell_of_what_it_is_sent_as(dtype: WireDtype, bits: int) -> None:
    own = np.array([[bits]], np.uint32).view(np.float32)
    code = round_plainly(float(own[0, 0]), dtype) if np.isfinite(own).all() else None
    if code is None:
        with pytest.raises(WireDtypeError):
            encode_rows(own, dtype)
        return
    data = encode_rows(own, dtype)
    assert data == struct.pack("<H", code)
    assert compute_excess(decode_rows(data, dtype, 1), own, dtype)[0, 0] == 0.0


@pytest.mark.parametrize("dtype", NARROW)
@given(
    code=st.integers(0, 0x7BFF),
    sign=st.sampled_from([0, 0x8000]),
    own=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_the_excess_is_the_exact_distance_from_the_cell(dtype: WireDtype, code: int, sign: int, own: float) -> None:
    claimed = read_code(code | sign, dtype)
    exact = compute_excess_plainly(code | sign, own, dtype)
    assert _measure(claimed, own, dtype) == pytest.approx(float(exact), rel=1e-15, abs=0.0)
    least = abs(claimed - own) - max(abs(claimed) / 256, 2.0**-25)
    assert float(exact) >= least * (1 - 1e-12)


def test_fp32_has_no_cell() -> None:
    assert _measure(1.0, 1.0, WireDtype.FP32) == 0.0
    assert _measure(1.0, 1.0 + 2.0**-23, WireDtype.FP32) == 2.0**-23


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (WireDtype.BF16, 1 + 2.0**-8),
        (WireDtype.FP16, 1 + 2.0**-11),
        (WireDtype.FP16, 65536.0),
        (WireDtype.FP16, 2.0**-25),
    ],
)
def test_values_that_the_dtype_does_not_have_are_refused(dtype: WireDtype, value: float) -> None:
    with pytest.raises(FingerprintError, match="decode them first"):
        _measure(value, 1.0, dtype)
