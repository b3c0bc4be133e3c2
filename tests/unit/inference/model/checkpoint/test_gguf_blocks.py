"""Every type of GGUF: the blocks we read stand for the values of gguf's own dequantisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from inference.errors import ModelFormatError
from inference.model.checkpoint.gguf_file import GgufFile, open_gguf
from inference.model.checkpoint.source import Blocks
from proto_specs.types.manifest import Form
from tests.unit.inference.model.checkpoint.raw_gguf import HALVES, RawGguf, make_blocks

ROWS, COLUMNS = 24, 512
FORMS = {
    Kind.Q4_0: Form.Q4_B32,
    Kind.Q4_1: Form.Q4_B32_MIN,
    Kind.Q5_0: Form.Q8_B32,
    Kind.Q5_1: Form.Q8_B32_MIN,
    Kind.Q8_0: Form.Q8_B32,
    Kind.Q2_K: Form.Q4_B16_MIN,
    Kind.Q3_K: Form.Q4_B16,
    Kind.Q4_K: Form.Q4_B32_MIN,
    Kind.Q5_K: Form.Q8_B32_MIN,
    Kind.Q6_K: Form.Q8_B16,
    Kind.IQ4_NL: Form.Q8_B32,
    Kind.IQ4_XS: Form.Q8_B32,
    Kind.MXFP4: Form.Q8_B32,
}
# Their codes count from zero upwards, so the offset takes in what the middle subtracts and is rounded.
ROUNDED = {Kind.Q4_1, Kind.Q4_K}
OTHERS = [Kind.TQ1_0, Kind.TQ2_0, Kind.NVFP4, Kind.IQ1_S, Kind.IQ1_M, Kind.IQ2_XXS, Kind.IQ2_XS, Kind.IQ2_S]
OTHERS += [Kind.IQ3_XXS, Kind.IQ3_S]
QUANTISABLE = [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.MXFP4]

Floats = NDArray[np.float32]


def _open(directory: Path, kind: Kind, raw: NDArray[np.uint8], shape: tuple[int, ...] = (ROWS, COLUMNS)) -> GgufFile:
    path = directory / f"{kind.name}.gguf"
    path.write_bytes(RawGguf().add("w", shape, kind, raw.tobytes()).make())
    return open_gguf(path)


def _make(kind: Kind, *, wild: bool = False, rows: int = ROWS) -> NDArray[np.uint8]:
    return make_blocks(kind, rows * COLUMNS // GGML_QUANT_SIZES[kind][0], int(kind), wild=wild).reshape(rows, -1)


def _expand(form: Form, blocks: Blocks) -> tuple[Floats, Floats]:
    """The values that blocks stand for, and the size of the larger term of each."""
    middle = 8 if form in (Form.Q4_B32, Form.Q4_B32_MIN, Form.Q4_B16, Form.Q4_B16_MIN) else 128
    size = blocks.codes.shape[1] // blocks.scale.shape[1]
    products = (blocks.codes.astype(np.float32) - middle) * np.repeat(blocks.scale, size, 1)
    if blocks.offset is None:
        return products, np.abs(products)
    offsets = np.repeat(blocks.offset, size, 1)
    return products + offsets, np.maximum(np.abs(products), np.abs(offsets))


def _assert_same_bits(found: Floats, wanted: Floats) -> None:
    assert found.dtype == wanted.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))


def _check(opened: GgufFile, kind: Kind, raw: NDArray[np.uint8]) -> None:
    form, wanted = opened.get_form("w"), dequantize(raw, kind)
    blocks = opened.read_blocks("w")
    found, larger = _expand(form, blocks)
    assert blocks.codes.dtype == np.uint8
    assert blocks.scale.dtype == np.float32
    assert all(one.flags.c_contiguous for one in (blocks.codes, blocks.scale))
    assert blocks.codes.max() <= (15 if "Q4" in form.name else 255)
    if kind in ROUNDED:
        assert (np.abs(found - wanted) <= np.spacing(np.maximum(larger, np.abs(wanted)))).all()
    else:
        _assert_same_bits(found, wanted)
    _assert_same_bits(opened.read("w"), wanted)


def test_every_type_that_gguf_dequantises_is_read() -> None:
    known = {kind for kind in Kind if kind not in (Kind.F32, Kind.F16, Kind.BF16) and _is_dequantised(kind)}
    assert known == FORMS.keys() | set(OTHERS)


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("kind", FORMS)
def test_blocks_stand_for_the_values_of_gguf(tmp_path: Path, kind: Kind, wild: bool) -> None:
    raw = _make(kind, wild=wild)
    opened = _open(tmp_path, kind, raw)
    assert opened.get_form("w") is FORMS[kind]
    assert (opened.read_blocks("w").offset is not None) == FORMS[kind].name.endswith("MIN")
    _check(opened, kind, raw)


@pytest.mark.parametrize("kind", QUANTISABLE)
def test_quantised_weights_stand_for_the_values_of_gguf(tmp_path: Path, kind: Kind) -> None:
    weights = np.random.default_rng(1).normal(0, 0.05, (ROWS, COLUMNS)).astype(np.float32)
    raw = quantize(weights, kind)
    opened = _open(tmp_path, kind, raw)
    _check(opened, kind, raw)
    np.testing.assert_allclose(opened.read("w"), weights, atol=0.05)


@pytest.mark.parametrize("kind", [*FORMS, *OTHERS])
def test_a_slice_of_rows_is_that_part_of_all(tmp_path: Path, kind: Kind) -> None:
    opened = _open(tmp_path, kind, _make(kind))
    values = opened.read("w")
    for rows in (slice(0, 1), slice(5, 17), slice(20, 99), slice(7, 7), slice(9, 3), slice(-3, None)):
        np.testing.assert_array_equal(opened.read("w", rows), values[rows])
        if kind in FORMS:
            whole, part = opened.read_blocks("w"), opened.read_blocks("w", rows)
            np.testing.assert_array_equal(part.codes, whole.codes[rows])
            np.testing.assert_array_equal(part.scale, whole.scale[rows])


@pytest.mark.parametrize("kind", OTHERS)
def test_types_without_a_form_are_read_as_fp32(tmp_path: Path, kind: Kind) -> None:
    raw = _make(kind)
    opened = _open(tmp_path, kind, raw)
    assert opened.get_form("w") is Form.FP32
    _assert_same_bits(opened.read("w"), dequantize(raw, kind))


@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.Q6_K, Kind.IQ2_S])
def test_experts_are_rows_of_experts(tmp_path: Path, kind: Kind) -> None:
    shape = (3, ROWS // 3, COLUMNS)
    raw = _make(kind)
    wanted = dequantize(raw, kind).reshape(shape)
    opened = _open(tmp_path, kind, raw, shape)
    assert opened.get_shape("w") == shape
    np.testing.assert_array_equal(opened.read("w"), wanted)
    np.testing.assert_array_equal(opened.read("w", slice(1, 2)), wanted[1:2])
    if kind in FORMS:
        blocks = opened.read_blocks("w", slice(1, 3))
        assert blocks.codes.shape == (2 * ROWS // 3, COLUMNS)
        np.testing.assert_allclose(_expand(FORMS[kind], blocks)[0], wanted[1:].reshape(-1, COLUMNS), rtol=1e-5)


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.IQ2_S])
def test_a_quantised_vector_is_read_as_fp32(tmp_path: Path, kind: Kind) -> None:
    raw = _make(kind, rows=1)
    opened = _open(tmp_path, kind, raw, (COLUMNS,))
    assert opened.get_form("w") is Form.FP32
    wanted = dequantize(raw, kind).reshape(-1)
    np.testing.assert_array_equal(opened.read("w"), wanted)
    np.testing.assert_array_equal(opened.read("w", slice(3, 40)), wanted[3:40])


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16])
@pytest.mark.parametrize("shape", [(7, 5), (11,)])
def test_plain_types_keep_their_values(tmp_path: Path, kind: Kind, shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(2).normal(0, 1, shape).astype(np.float32)
    raw = np.ascontiguousarray(quantize(weights, kind)).view(np.uint8)
    opened = _open(tmp_path, kind, raw, shape)
    assert opened.get_form("w") is {Kind.F32: Form.FP32, Kind.F16: Form.FP16, Kind.BF16: Form.BF16}[kind]
    wanted = dequantize(raw.reshape(*shape[:-1], -1), kind)
    _assert_same_bits(opened.read("w"), wanted)
    _assert_same_bits(opened.read("w", slice(2, 6)), wanted[2:6])


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("half", [0x7C00, 0xFC00, 0x7E00])
def test_scales_that_are_no_numbers_are_refused(tmp_path: Path, kind: Kind, half: int) -> None:
    for at in HALVES[kind]:
        raw = make_blocks(kind, ROWS * COLUMNS // GGML_QUANT_SIZES[kind][0], 3)
        raw[5, at : at + 2] = np.frombuffer(np.uint16(half).tobytes(), np.uint8)
        opened = _open(tmp_path, kind, raw)
        for read in (opened.read, opened.read_blocks):
            with pytest.raises(ModelFormatError, match="no number or absurd"):
                read("w")


def test_an_absurd_exponent_is_refused(tmp_path: Path) -> None:
    raw = _make(Kind.MXFP4)
    raw[3, 17] = 255
    with pytest.raises(ModelFormatError, match="absurd"):
        _open(tmp_path, Kind.MXFP4, raw).read_blocks("w")


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, kind: Kind) -> None:
    weights = np.zeros((4, 4), np.float32)
    weights[2, 2] = np.inf
    opened = _open(tmp_path, kind, np.ascontiguousarray(quantize(weights, kind)).view(np.uint8), (4, 4))
    assert opened.read("w", slice(0, 2)).shape == (2, 4)
    with pytest.raises(ModelFormatError, match="NaN or infinity"):
        opened.read("w")


@pytest.mark.parametrize("kind", [Kind.F64, Kind.I32, Kind.Q8_K])
def test_types_of_no_weights_are_refused(tmp_path: Path, kind: Kind) -> None:
    block, size = GGML_QUANT_SIZES[kind]
    opened = _open(tmp_path, kind, np.zeros(4 * 256 // block * size, np.uint8), (4, 256))
    for read in (opened.get_form, opened.read):
        with pytest.raises(ModelFormatError, match=f"of type {kind.name}"):
            read("w")


def _is_dequantised(kind: Kind) -> bool:
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True
