"""Wire rows: round trips, rounding, byte order, and everything that is not rows."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from inference.engine.wire_dtype import decode_rows, decode_tokens, encode_rows
from inference.errors import WireDtypeError
from proto_specs.types.manifest import WireDtype

HIDDEN = (WireDtype.FP32, WireDtype.FP16, WireDtype.BF16)


def _row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


@given(st.lists(st.floats(-60000, 60000, width=16), min_size=1, max_size=20))
def test_values_both_formats_hold_survive(values: list[float]) -> None:
    rows = np.array(values, np.float32).reshape(1, -1)
    for dtype in (WireDtype.FP32, WireDtype.FP16):
        assert_array_equal(decode_rows(encode_rows(rows, dtype), dtype, rows.shape[1]), rows)


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=20))
def test_bf16_rounds_to_nearest_and_is_stable(values: list[float]) -> None:
    rows = np.array(values, np.float32).reshape(-1, 1)
    data = encode_rows(rows, WireDtype.BF16)
    once = decode_rows(data, WireDtype.BF16, 1)
    normal = np.abs(rows) > 1e-37
    assert (np.abs(once - rows)[normal] <= np.abs(rows)[normal] * 2.0**-8).all()
    assert encode_rows(once, WireDtype.BF16) == data


def test_bytes_are_little_endian_and_ties_go_to_even() -> None:
    assert encode_rows(_row(1.0, -2.5), WireDtype.FP32) == struct.pack("<ff", 1.0, -2.5)
    assert encode_rows(_row(1.0), WireDtype.FP16) == b"\x00\x3c"
    assert encode_rows(_row(1.0), WireDtype.BF16) == b"\x80\x3f"
    assert encode_rows(_row(1 + 2.0**-8), WireDtype.BF16) == b"\x80\x3f"
    assert encode_rows(_row(1 + 3 * 2.0**-8), WireDtype.BF16) == b"\x82\x3f"
    assert encode_rows(_row(1 + 2.0**-8 + 2.0**-20), WireDtype.BF16) == b"\x81\x3f"
    assert_array_equal(decode_tokens(b"\x01\x00\x00\x00\x02\x01\x00\x00", 259), [1, 258])


def test_rows_come_back_in_shape() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    for dtype in HIDDEN:
        assert_array_equal(decode_rows(encode_rows(rows, dtype), dtype, 4), rows)
    assert_array_equal(decode_tokens(struct.pack("<II", 5, 6), 7), [5, 6])


@pytest.mark.parametrize("dtype", HIDDEN)
def test_poison_is_refused_in_both_directions(dtype: WireDtype) -> None:
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(WireDtypeError, match="NaN or infinity"):
            encode_rows(_row(1, value), dtype)
    for bits in {WireDtype.FP32: (0x7FC00000, 0xFF800000), WireDtype.FP16: (0x7E00, 0xFC00)}.get(
        dtype, (0x7FC0, 0xFF80)
    ):
        data = bits.to_bytes(4 if dtype is WireDtype.FP32 else 2, "little")
        with pytest.raises(WireDtypeError, match="NaN or infinity"):
            decode_rows(data, dtype, 1)


def test_values_a_dtype_cannot_carry_are_refused() -> None:
    with pytest.raises(WireDtypeError, match="exceeds fp16"):
        encode_rows(_row(70000), WireDtype.FP16)
    with pytest.raises(WireDtypeError, match="exceeds bf16"):
        encode_rows(_row(np.finfo(np.float32).max), WireDtype.BF16)
    assert encode_rows(_row(3e38), WireDtype.BF16)


@pytest.mark.parametrize("dtype", HIDDEN)
@pytest.mark.parametrize("length", [0, 1, 7, 9])
def test_partial_rows_are_refused(dtype: WireDtype, length: int) -> None:
    with pytest.raises(WireDtypeError, match="not whole rows"):
        decode_rows(bytes(length), dtype, 2)


def test_token_payloads_are_bounded() -> None:
    for data in (b"", b"\x01\x00\x00"):
        with pytest.raises(WireDtypeError, match="not whole rows"):
            decode_tokens(data, 10)
    with pytest.raises(WireDtypeError, match="outside the vocabulary"):
        decode_tokens(b"\x0a\x00\x00\x00", 10)
    with pytest.raises(WireDtypeError, match="not hidden states"):
        decode_rows(bytes(4), WireDtype.TOKEN, 1)
    with pytest.raises(WireDtypeError, match="cannot be sent"):
        encode_rows(_row(1.0), WireDtype.TOKEN)
    with pytest.raises(WireDtypeError, match=r"\[n,C\]"):
        encode_rows(np.zeros(3, np.float32), WireDtype.FP32)
