"""Products of rows with stored tensors, exact for every form: y [R, N] = x [R, K] times the tensor's values.

Block forms use ONNX Runtime's MatMulNBits with fp32 activations. Its fast kernels know one scale and an integer zero
point for a block; a block's offset is a second, small product with the sums of x over blocks. A matrix of 8 bits is two
of 4 bits side by side (forms.py) times x twice. A table of 8 bits, the head, is too large to be doubled; it uses the
kernel with int8 activations, which is exact for rows that are int8 already: each row is taken apart into three such
rows (the first 8 bits of each element, then what is left, twice), whose products are added. CUDA's kernel is fp32 with
8 bits as with 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from inference.model.forms import BLOCK_FORMS, FLOAT_BLOCK, BlockForm, Role
from inference.model.graph.provider import Provider
from inference.model.layout import StoredTensor
from proto_specs.types.manifest import Form

if TYPE_CHECKING:
    from inference.model.graph.kit import GraphKit

CONTRIB_DOMAIN = "com.microsoft"
INT8_MAX = 127.0
_LEAST_STEP = 1e-30
"""Keeps blocks of zeros from dividing by zero; far below any step that matters."""
_INT8_LEVEL = 4


def build_product(kit: GraphKit, rows: str, tensor: StoredTensor, name: str) -> str:
    """Adds the nodes of one product. `name` is that of the tensor in the graph; its arrays follow it with a dot."""
    if tensor.form is Form.F8_B128:
        floats = kit.node("Reshape", [f"{name}.floats", kit.live_shape(tensor.rows, tensor.columns)])
        weights = kit.node("DequantizeLinear", [floats, f"{name}.scales"], axis=1, block_size=FLOAT_BLOCK)
        return kit.node("Gemm", [rows, weights], transB=1)
    if tensor.form not in BLOCK_FORMS:
        weights = f"{name}.values"
        if tensor.form is not Form.FP32 and tensor.role is Role.EXPERTS:
            # Widened when it is used: its memory stays that of the stored form. A shape that is known at run time alone
            # keeps the runtime from widening all experts when it loads.
            stored = kit.node("Reshape", [weights, kit.live_shape(tensor.rows, tensor.columns)])
            weights = kit.node("Cast", [stored], to=TensorProto.FLOAT)
        elif tensor.form is not Form.FP32:
            weights = kit.once(f"{name}.fp32", lambda: kit.node("Cast", [f"{name}.values"], to=TensorProto.FLOAT))
        return kit.node("Gemm", [rows, weights], transB=1)
    spec = BLOCK_FORMS[tensor.form]
    if spec.bits == 8 and tensor.role is Role.TABLE and kit.provider is Provider.CUDA:
        product = _build_blocks(kit, rows, tensor.rows, tensor.columns, 8, spec.block, name)
    elif spec.bits == 8 and tensor.role is Role.TABLE:
        product = _build_by_digits(kit, rows, tensor, spec, name)
    elif spec.bits == 8:
        doubled = kit.once(f"{rows}.doubled", lambda: kit.node("Concat", [rows, rows], axis=-1))
        product = _build_blocks(kit, doubled, tensor.rows, 2 * tensor.columns, 4, spec.block, name, ["middles"])
    else:
        product = _build_blocks(kit, rows, tensor.rows, tensor.columns, 4, spec.block, name)
    if not spec.has_offset:
        return product
    sums = kit.once(f"{rows}.sums.{spec.block}", lambda: _build_sums(kit, rows, tensor.columns, spec.block))
    return kit.node("Gemm", [sums, f"{name}.offsets", product], transB=1)


def _build_blocks(
    kit: GraphKit,
    rows: str,
    outputs: int,
    columns: int,
    bits: int,
    block: int,
    name: str,
    more: list[str] | None = None,
    level: int = 0,
) -> str:
    inputs = [rows, *(f"{name}.{array}" for array in ["codes", "scales", *(more or [])])]
    return kit.node(
        "MatMulNBits", inputs, CONTRIB_DOMAIN, K=columns, N=outputs, bits=bits, block_size=block, accuracy_level=level
    )


def _build_sums(kit: GraphKit, rows: str, columns: int, block: int) -> str:
    """Sums of each block of x: [R, K / block]."""
    pattern = np.repeat(np.eye(columns // block, dtype=np.float32), block, axis=0)
    return kit.node("MatMul", [rows, kit.constant(f"sums.{columns}.{block}", pattern)])


def _build_by_digits(kit: GraphKit, rows: str, tensor: StoredTensor, spec: BlockForm, name: str) -> str:
    """x as three rows of int8 elements, each with its own step per block, times codes of 8 bits; the products added.

    A digit's step is a 127th of the largest element left in the block, so the kernel, which takes the same step, rounds
    nothing but the last row: an error below 2^-23 of the block's largest element.
    """
    left = kit.reshape(rows, -1, tensor.columns // spec.block, spec.block)
    digits: list[str] = []
    axis = kit.constant("last_axis", np.array([-1], np.int64))
    for _ in range(2):
        largest = kit.node("ReduceMax", [kit.node("Abs", [left]), axis], keepdims=1)
        step = kit.node(
            "Max", [kit.scale(largest, 1 / INT8_MAX), kit.constant("step", np.array([_LEAST_STEP], np.float32))]
        )
        digit = kit.multiply(kit.node("Round", [kit.node("Div", [left, step])]), step)
        digits.append(digit)
        left = kit.node("Sub", [left, digit])
    planes = kit.reshape(kit.node("Concat", [*digits, left], axis=0), -1, tensor.columns)  # [3 R, K]
    products = _build_blocks(
        kit, planes, tensor.rows, tensor.columns, 8, spec.block, name, level=_INT8_LEVEL
    )  # [3 R, N]
    by_digit = kit.reshape(products, 3, -1, tensor.rows)
    first, second, rest = (
        kit.node("Gather", [by_digit, kit.constant(f"digit.{place}", np.array(place, np.int64))], axis=0)
        for place in range(3)
    )
    return kit.add(kit.add(rest, second), first)
