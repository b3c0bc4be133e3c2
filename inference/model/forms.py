"""The forms of stored tensors: which arrays each has, how values become their bytes, and the values they stand for.

A matrix is [N, K]: N outputs, K inputs. All arrays are little-endian and row-major with one row per output, so that
rows can be written, or looked up, a block at a time. Experts, and matrices of heads, lie one after another, rows after
rows:

    FP32, FP16, BF16   `values` [N, K]
    4 bits             `codes` [N, K/block, block/2] uint8, the even element in the low nibble; `scales` [N, K/block]
    8 bits, a table    `codes` [N, K/block, block] uint8; `scales` [N, K/block]
    8 bits, a matrix   as two 4-bit matrices side by side, high nibbles then low ones, since runtimes have a fast exact
                       kernel for 4 bits alone: `codes` [N, 2 K/block, block/2]; `scales` [N, 2 K/block], 16 x scale
                       then scale; `middles` [N, K/block] uint8, the packed zero points (8 for high, 0 for low nibbles)
    F8_B128            `floats` [N, K] e4m3fn; `scales` [N, K/128]
    ..._MIN            besides `offsets` [N, K/block]

Scales and offsets are fp32.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.model.checkpoint.e4m3 import E4M3_VALUES
from inference.model.checkpoint.source import Blocks, Codes, Values
from proto_specs.types.manifest import Form

Array = NDArray[np.generic]


class Role(enum.Enum):
    """What a tensor is used for, which decides how its form is laid out."""

    VECTOR = "vector"  # [n], always FP32
    MATRIX = "matrix"  # [N, K], multiplied with rows of K
    TABLE = "table"  # [V, C], rows are looked up; as a head it is multiplied with rows of C
    EXPERTS = "experts"  # [E, N, K], matrices of which a row is multiplied with the few that it chose
    HEADS = "heads"  # [H, N, K], a matrix for each attention head; never in blocks


@dataclass(frozen=True)
class BlockForm:
    """A block-quantised form."""

    bits: int
    block: int
    has_offset: bool

    @property
    def middle(self) -> int:
        """The code that stands for zero."""
        return 1 << (self.bits - 1)


BLOCK_FORMS: Mapping[Form, BlockForm] = {
    Form.Q4_B32: BlockForm(4, 32, False),
    Form.Q4_B32_MIN: BlockForm(4, 32, True),
    Form.Q4_B16: BlockForm(4, 16, False),
    Form.Q4_B16_MIN: BlockForm(4, 16, True),
    Form.Q8_B32: BlockForm(8, 32, False),
    Form.Q8_B32_MIN: BlockForm(8, 32, True),
    Form.Q8_B16: BlockForm(8, 16, False),
    Form.Q8_B16_MIN: BlockForm(8, 16, True),
}

FLOAT_BLOCK = 128
"""Inputs that share a scale in F8_B128."""
_ITEM_TYPES = {Form.FP32: "<f4", Form.FP16: "<f2", Form.BF16: "<u2"}


def is_blocked(form: Form) -> bool:
    """Whether a form has blocks of inputs with a scale each."""
    return form in BLOCK_FORMS or form is Form.F8_B128


def compute_arrays(form: Form, role: Role, rows: int, columns: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The arrays of a tensor, in file order: numpy dtype and shape by name."""
    if form in _ITEM_TYPES:
        return {"values": (_ITEM_TYPES[form], (rows, columns) if role is not Role.VECTOR else (rows,))}
    if form is Form.F8_B128:
        return {"floats": ("|u1", (rows, columns)), "scales": ("<f4", (rows, columns // FLOAT_BLOCK))}
    spec = BLOCK_FORMS[form]
    blocks = columns // spec.block
    arrays: dict[str, tuple[str, tuple[int, ...]]] = {}
    if spec.bits == 8 and role is Role.TABLE:
        arrays["codes"] = ("|u1", (rows, blocks, spec.block))
        arrays["scales"] = ("<f4", (rows, blocks))
    elif spec.bits == 8:
        arrays["codes"] = ("|u1", (rows, 2 * blocks, spec.block // 2))
        arrays["scales"] = ("<f4", (rows, 2 * blocks))
        arrays["middles"] = ("|u1", (rows, blocks))
    else:
        arrays["codes"] = ("|u1", (rows, blocks, spec.block // 2))
        arrays["scales"] = ("<f4", (rows, blocks))
    if spec.has_offset:
        arrays["offsets"] = ("<f4", (rows, blocks))
    return arrays


def pack_values(form: Form, values: Values) -> dict[str, Array]:
    """The array of rows of an unquantised form. FP16 and BF16 take values that came from such a checkpoint: exact."""
    if form is Form.FP16:
        return {"values": values.astype("<f2")}
    if form is Form.BF16:
        return {"values": (values.astype("<f4", copy=False).view("<u4") >> 16).astype("<u2")}
    return {"values": values.astype("<f4", copy=False)}


def pack_blocks(form: Form, role: Role, blocks: Blocks) -> dict[str, Array]:
    """The arrays of some rows of a block form."""
    if form is Form.F8_B128:
        return {"floats": blocks.codes, "scales": blocks.scale.astype("<f4", copy=False)}
    spec = BLOCK_FORMS[form]
    rows, columns = blocks.codes.shape
    codes: Codes = blocks.codes.reshape(rows, columns // spec.block, spec.block)
    scale = blocks.scale.astype("<f4", copy=False)
    arrays: dict[str, Array]
    if spec.bits == 4:
        arrays = {"codes": _pack_nibbles(codes), "scales": scale}
    elif role is Role.TABLE:
        arrays = {"codes": codes, "scales": scale}
    else:
        high, low = _pack_nibbles((codes >> 4).astype(np.uint8)), _pack_nibbles((codes & 15).astype(np.uint8))
        arrays = {"codes": np.concatenate([high, low], 1), "scales": np.concatenate([16 * scale, scale], 1)}
        arrays["middles"] = _make_middles(rows, columns // spec.block)
    if spec.has_offset:
        assert blocks.offset is not None, "the form has offsets"
        arrays["offsets"] = blocks.offset.astype("<f4", copy=False)
    return arrays


def unpack_rows(form: Form, role: Role, arrays: Mapping[str, Array]) -> Values:
    """fp32 values [N, K] of rows, from their arrays: what a lookup gives, and the reference of the kernels."""
    if form is Form.BF16:
        return (arrays["values"].astype(np.uint32) << 16).view(np.float32)
    if form in _ITEM_TYPES:
        return arrays["values"].astype(np.float32)
    if form is Form.F8_B128:
        floats: Values = E4M3_VALUES[arrays["floats"].astype(np.uint8, copy=False)]
        return floats * np.repeat(arrays["scales"].astype(np.float32), FLOAT_BLOCK, axis=1)
    spec = BLOCK_FORMS[form]
    codes, scales = arrays["codes"], arrays["scales"].astype(np.float32)
    if spec.bits == 4:
        numbers = _unpack_nibbles(codes).astype(np.float32) - 8
    elif role is Role.TABLE:
        numbers = codes.astype(np.float32) - spec.middle
    else:
        nibbles = _unpack_nibbles(codes).astype(np.float32)
        half = nibbles.shape[1] // 2
        numbers, scales = 16 * (nibbles[:, :half] - 8) + nibbles[:, half:], scales[:, half:]
    values = numbers * scales[..., None]
    if spec.has_offset:
        values += arrays["offsets"].astype(np.float32)[..., None]
    return np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)


def _pack_nibbles(codes: Codes) -> Codes:
    packed: Codes = codes[..., 0::2] | (codes[..., 1::2] * np.uint8(16))
    return packed


def _unpack_nibbles(packed: Array) -> Codes:
    data = packed.astype(np.uint8, copy=False)
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], -1)


def _make_middles(rows: int, blocks: int) -> Codes:
    """Packed zero points of a row's 2 x `blocks` blocks: 8 for the first half, 0 for the second."""
    nibbles = np.repeat(np.array([8, 0], np.uint8), blocks)
    return np.tile(_pack_nibbles(nibbles), (rows, 1))
