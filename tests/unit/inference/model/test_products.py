"""Every form's product against its values in fp64: kernels compute with what `unpack_rows` says, to fp32 rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from inference.model.checkpoint.source import Blocks
from inference.model.forms import BLOCK_FORMS, Array, Role, pack_blocks, pack_values, unpack_rows
from inference.model.graph.build import IR_VERSION, OPSET
from inference.model.graph.kit import CONTRIB_DOMAIN, GraphKit
from inference.model.layout import Part, compute_unit_bytes, place_tensors
from proto_specs.types.manifest import Form

RELATIVE_MAX = 2e-6
OUTPUTS, COLUMNS = 48, 224
MATRIX_FORMS = [one for one in Form if one is not Form.F8_B128]
"""Fp8 is for experts."""
FLOATS = (Form.FP32, Form.FP16, Form.BF16)
ROLES = (Role.MATRIX, Role.TABLE)
Rows = NDArray[np.float32]


def make_arrays(form: Form, role: Role, rows: int = OUTPUTS, columns: int = COLUMNS, seed: int = 0) -> dict[str, Array]:
    """A random tensor: scales of both signs and wide spread, some blocks of zeros."""
    generator = np.random.default_rng(seed)
    if form not in BLOCK_FORMS:
        values = generator.standard_normal((rows, columns)).astype(np.float32)
        narrow = unpack_rows(form, role, pack_values(form, values)) if form is Form.FP16 else values
        return pack_values(form, narrow)
    spec = BLOCK_FORMS[form]
    shape = (rows, columns // spec.block)
    codes = generator.integers(0, 1 << spec.bits, (rows, columns)).astype(np.uint8)
    scale = (generator.standard_normal(shape) * 10.0 ** generator.uniform(-3, 0, shape)).astype(np.float32)
    scale[generator.random(shape) < 0.1] = 0
    offset = generator.standard_normal(shape).astype(np.float32) if spec.has_offset else None
    return pack_blocks(form, role, Blocks(codes, scale, offset))


def multiply(form: Form, role: Role, arrays: dict[str, Array], rows: Rows, folder: Path) -> Rows:
    """rows [R, K] times the tensor, by the nodes that layers are built of, from a unit file."""
    outputs, columns = unpack_rows(form, role, arrays).shape
    tensors = place_tensors([Part("w", role, (outputs, columns))], [form])
    with (folder / "unit.bin").open("wb") as file:
        file.truncate(compute_unit_bytes(tensors))
        for array in tensors[0].arrays:
            file.seek(array.offset)
            file.write(np.ascontiguousarray(arrays[array.name]).data.cast("B"))
    kit = GraphKit(epsilon=1e-5)
    kit.enter("", "unit.bin", tensors)
    kit.declare("x", TensorProto.FLOAT, ["R", columns])
    kit.declare("y", TensorProto.FLOAT, ["R", outputs], is_output=True)
    kit.node("Identity", [kit.linear("x", "w")], outputs=["y"])
    graph = helper.make_graph(kit.nodes, "product", kit.inputs, kit.outputs, kit.initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    product: Rows = session.run(["y"], {"x": rows})[0]
    return product


def compute_exact(form: Form, role: Role, arrays: dict[str, Array], rows: Rows) -> NDArray[np.float64]:
    return rows.astype(np.float64) @ unpack_rows(form, role, arrays).astype(np.float64).T


@pytest.mark.parametrize("count", [1, 2, 7, 40])
@pytest.mark.parametrize("role", ROLES, ids=lambda one: one.value)
@pytest.mark.parametrize("form", MATRIX_FORMS, ids=lambda one: one.name)
def test_products_are_exact(form: Form, role: Role, count: int, tmp_path: Path) -> None:
    arrays = make_arrays(form, role)
    rows = np.random.default_rng(count).standard_normal((count, COLUMNS)).astype(np.float32)
    exact = compute_exact(form, role, arrays, rows)
    error = np.abs(multiply(form, role, arrays, rows, tmp_path) - exact).max(axis=1)
    assert (error <= RELATIVE_MAX * np.abs(exact).max(axis=1)).all()


def _make_adversarial() -> dict[str, Rows]:
    generator = np.random.default_rng(5)
    plain = generator.standard_normal((4, COLUMNS)).astype(np.float32)
    outlier = plain.copy()
    outlier[:, 37] = 1e6
    mixed = plain * (10.0 ** generator.uniform(-12, 12, plain.shape)).astype(np.float32)
    steps = np.sign(plain) * np.round(np.abs(plain) * 127) / np.float32(127)
    halves = (np.round(plain * 64) + np.float32(0.5)) / 127
    return {
        "one-outlier": outlier,
        "wide-spread": mixed,
        "zeros": np.where(generator.random(plain.shape) < 0.9, 0, plain).astype(np.float32),
        "all-zeros": np.zeros_like(plain),
        "on-digits": steps.astype(np.float32),
        "between-digits": halves.astype(np.float32),
        "equal": np.full_like(plain, 0.1),
        "one-element": np.eye(4, COLUMNS, 33, dtype=np.float32),
        "tiny": plain * np.float32(1e-25),
        "huge": plain * np.float32(1e25),
    }


ADVERSARIAL = _make_adversarial()


@pytest.mark.parametrize("rows", ADVERSARIAL.values(), ids=ADVERSARIAL)
@pytest.mark.parametrize("role", ROLES, ids=lambda one: one.value)
@pytest.mark.parametrize("form", MATRIX_FORMS, ids=lambda one: one.name)
def test_adversarial_rows_are_as_exact_as_their_largest_terms(
    form: Form, role: Role, rows: Rows, tmp_path: Path
) -> None:
    """An fp32 sum is as exact as its largest terms; a table of 8 bits is as exact as a block's largest element."""
    arrays = make_arrays(form, role)
    weights = np.abs(unpack_rows(form, role, arrays).astype(np.float64))
    terms = np.abs(rows.astype(np.float64))
    if form in BLOCK_FORMS:
        if "offsets" in arrays:  # the code's share and the offset are two terms
            weights += 2 * np.repeat(np.abs(arrays["offsets"].astype(np.float64)), BLOCK_FORMS[form].block, axis=1)
        if BLOCK_FORMS[form].bits == 8 and role is Role.TABLE:
            block = BLOCK_FORMS[form].block
            terms = np.repeat(terms.reshape(len(rows), -1, block).max(axis=2), block, axis=1)
    product = multiply(form, role, arrays, rows, tmp_path)
    assert np.isfinite(product).all()
    error = np.abs(product - compute_exact(form, role, arrays, rows))
    assert (error <= RELATIVE_MAX * (terms @ weights.T)).all()


@pytest.mark.parametrize("role", ROLES, ids=lambda one: one.value)
@pytest.mark.parametrize("form", MATRIX_FORMS, ids=lambda one: one.name)
def test_subnormal_rows_come_out_as_nothing(form: Form, role: Role, tmp_path: Path) -> None:
    arrays = make_arrays(form, role)
    rows = np.full((2, COLUMNS), 1e-40, np.float32)
    product = multiply(form, role, arrays, rows, tmp_path)
    assert np.abs(product).max() < 1e-27


@pytest.mark.parametrize("role", ROLES, ids=lambda one: one.value)
@pytest.mark.parametrize("form", MATRIX_FORMS, ids=lambda one: one.name)
def test_a_row_alone_is_that_row_among_others(form: Form, role: Role, tmp_path: Path) -> None:
    arrays = make_arrays(form, role)
    rows = np.random.default_rng(9).standard_normal((5, COLUMNS)).astype(np.float32)
    together = multiply(form, role, arrays, rows, tmp_path)
    for place in range(5):
        alone = multiply(form, role, arrays, rows[place : place + 1], tmp_path)[0]
        assert np.abs(alone - together[place]).max() <= RELATIVE_MAX * np.abs(together[place]).max()


@settings(max_examples=60)
@given(
    form=st.sampled_from(sorted(BLOCK_FORMS)),
    role=st.sampled_from(ROLES),
    rows=st.integers(1, 5),
    blocks=st.integers(1, 5),
    seed=st.integers(0, 1 << 32),
)
def test_packed_blocks_hold_their_values(form: Form, role: Role, rows: int, blocks: int, seed: int) -> None:
    spec = BLOCK_FORMS[form]
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 1 << spec.bits, (rows, blocks * spec.block)).astype(np.uint8)
    scale = generator.standard_normal((rows, blocks)).astype(np.float32)
    offset = generator.standard_normal((rows, blocks)).astype(np.float32) if spec.has_offset else None
    arrays = pack_blocks(form, role, Blocks(codes, scale, offset))
    wanted = (codes.reshape(rows, blocks, -1).astype(np.float32) - spec.middle) * scale[..., None]
    if offset is not None:
        wanted += offset[..., None]
    assert np.array_equal(unpack_rows(form, role, arrays), wanted.reshape(rows, -1))


@pytest.mark.parametrize("form", FLOATS, ids=lambda one: one.name)
def test_packed_values_of_a_float_form_are_those_values(form: Form) -> None:
    bits = np.arange(1 << 16, dtype=np.uint32)
    if form is Form.FP16:
        every = bits.astype(np.uint16).view(np.float16).astype(np.float32)
    else:
        every = (bits << 16).view(np.float32)
    values = every[np.isfinite(every)][: 1 << 15].reshape(1, -1)
    held = unpack_rows(form, Role.MATRIX, pack_values(form, values))
    assert np.array_equal(held.view(np.uint32), values.view(np.uint32))
