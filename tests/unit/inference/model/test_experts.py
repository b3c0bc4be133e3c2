"""Mixtures of experts in every form against fp64: exact, a row alone as among others, and unchosen ones not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from inference.model.checkpoint.source import Blocks
from inference.model.forms import BLOCK_FORMS, FLOAT_BLOCK, Array, Role, pack_blocks, pack_values, unpack_rows
from inference.model.graph.build import IR_VERSION, OPSET
from inference.model.graph.experts import Routing, build_experts, build_routing
from inference.model.graph.kit import CONTRIB_DOMAIN, GraphKit
from inference.model.layout import Part, StoredTensor, compute_unit_bytes, place_tensors
from inference.model.unit_reader import map_arrays
from proto_specs.types.manifest import Form

EXPERTS, WIDTH, HIDDEN, CHOSEN = 8, 256, 384, 3
RELATIVE_MAX = 4e-6
NAN_EXPERT = 5
"""Its numbers are no numbers: whoever uses it gets none."""
PARTS = (
    Part("gate", Role.EXPERTS, (EXPERTS, WIDTH, HIDDEN)),
    Part("up", Role.EXPERTS, (EXPERTS, WIDTH, HIDDEN)),
    Part("down", Role.EXPERTS, (EXPERTS, HIDDEN, WIDTH)),
)
Rows = NDArray[np.float32]


def _make_arrays(form: Form, rows: int, columns: int, generator: np.random.Generator) -> dict[str, Array]:
    if form in (Form.FP32, Form.FP16, Form.BF16):
        values = generator.standard_normal((rows, columns)).astype(np.float16).astype(np.float32)
        return pack_values(form, values * np.float32(0.0625))
    block = FLOAT_BLOCK if form is Form.F8_B128 else BLOCK_FORMS[form].block
    codes = generator.integers(0, 256 if form is Form.F8_B128 else 1 << BLOCK_FORMS[form].bits, (rows, columns))
    codes[codes & 127 == 127] = 0
    scale = generator.uniform(0.5, 1, (rows, columns // block)).astype(np.float32)
    scale *= np.float32(1e-3 if form is Form.F8_B128 else 0.3 / (1 << BLOCK_FORMS[form].bits))
    has_offset = form is not Form.F8_B128 and BLOCK_FORMS[form].has_offset
    offset = generator.standard_normal(scale.shape).astype(np.float32) * np.float32(0.05) if has_offset else None
    return pack_blocks(form, Role.EXPERTS, Blocks(codes.astype(np.uint8), scale, offset))


def _spoil(arrays: dict[str, Array]) -> dict[str, Array]:
    """Arrays with NaN where they hold fp32 scales, or values of any kind."""
    name = "scales" if "scales" in arrays else "values"
    bits = np.full(arrays[name].shape, 0xFF, np.uint8).repeat(arrays[name].itemsize, -1)
    return {**arrays, name: bits.view(arrays[name].dtype).reshape(arrays[name].shape)}


def _write_unit(form: Form, path: Path) -> tuple[StoredTensor, ...]:
    tensors = place_tensors(PARTS, [form] * len(PARTS))
    generator = np.random.default_rng(int(form))
    with path.open("wb") as file:
        file.truncate(compute_unit_bytes(tensors))
        for tensor in tensors:
            for place in range(EXPERTS):
                matrix = tensor.get_matrix(place)
                arrays = _make_arrays(form, matrix.rows, matrix.columns, generator)
                for name, array in (_spoil(arrays) if place == NAN_EXPERT else arrays).items():
                    file.seek(matrix.get_array(name).offset)
                    file.write(np.ascontiguousarray(array).data.cast("B"))
    return tensors


class Mixture:
    """A unit of random experts in one form, as a graph and as fp64 values."""

    def __init__(self, form: Form, folder: Path) -> None:
        self._form = form
        self._path = folder / "unit.bin"
        self._tensors = _write_unit(form, self._path)
        kit = GraphKit(epsilon=1e-6)
        kit.enter("", "unit.bin", self._tensors)
        kit.declare("x", TensorProto.FLOAT, ["R", HIDDEN])
        kit.declare("logits", TensorProto.FLOAT, ["R", EXPERTS])
        kit.declare("batch", TensorProto.INT64, [1])
        kit.declare("y", TensorProto.FLOAT, ["R", HIDDEN], is_output=True)
        chosen, weights = build_routing(kit, "logits", Routing(EXPERTS, CHOSEN, renormalised=True))
        kit.node("Identity", [build_experts(kit, "x", chosen, weights, EXPERTS)], outputs=["y"])
        graph = helper.make_graph(kit.nodes, "experts", kit.inputs, kit.outputs, kit.initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB_DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, rows: Rows, logits: Rows) -> Rows:
        """[R, HIDDEN] from the graph."""
        inputs = {"x": rows, "logits": logits, "batch": np.array([1], np.int64)}
        output: Rows = self._session.run(None, inputs)[0]
        return output

    def compute(self, rows: Rows, logits: Rows) -> NDArray[np.float64]:
        """The same in fp64, from the values that the form stands for."""
        outputs = np.zeros(rows.shape, np.float64)
        for place, (row, scores) in enumerate(zip(rows.astype(np.float64), logits.astype(np.float64), strict=True)):
            best = np.argsort(-scores)[:CHOSEN]
            shares = np.exp(scores[best]) / np.exp(scores[best]).sum()
            for expert, share in zip(best, shares, strict=True):
                gate, up, down = self._read(int(expert))
                inner = gate @ row
                outputs[place] += share * (down @ (inner / (1 + np.exp(-inner)) * (up @ row)))
        return outputs

    def _read(self, expert: int) -> Iterator[NDArray[np.float64]]:
        for tensor in self._tensors:
            arrays = map_arrays(self._path, tensor.get_matrix(expert))
            yield unpack_rows(self._form, Role.EXPERTS, arrays).astype(np.float64)


@pytest.fixture(scope="module", params=list(Form), ids=lambda one: one.name)
def mixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    """Each form."""
    return Mixture(request.param, tmp_path_factory.mktemp(request.param.name))


def _draw(count: int) -> tuple[Rows, Rows]:
    generator = np.random.default_rng(count)
    logits = generator.standard_normal((count, EXPERTS)).astype(np.float32)
    logits[:, NAN_EXPERT] = -9
    return generator.standard_normal((count, HIDDEN)).astype(np.float32), logits


def test_rows_are_those_of_fp64_and_experts_that_nobody_chose_are_not_used(mixture: Mixture) -> None:
    rows, logits = _draw(24)
    wanted = mixture.compute(rows, logits)
    assert np.abs(mixture.run(rows, logits) - wanted).max() <= RELATIVE_MAX * np.abs(wanted).max()


def test_a_row_alone_is_that_row_among_others(mixture: Mixture) -> None:
    rows, logits = _draw(24)
    together = mixture.run(rows, logits)
    alone = np.concatenate([mixture.run(rows[one : one + 1], logits[one : one + 1]) for one in range(24)])
    assert np.abs(alone - together).max() <= RELATIVE_MAX * np.abs(together).max()
    order = np.random.default_rng(0).permutation(24)
    shuffled = mixture.run(rows[order], logits[order])
    assert np.abs(shuffled - together[order]).max() <= RELATIVE_MAX * np.abs(together).max()


def test_an_expert_is_used_by_the_rows_that_chose_it_alone(mixture: Mixture) -> None:
    rows, logits = _draw(6)
    logits[2, NAN_EXPERT] = 9
    is_number = np.isfinite(mixture.run(rows, logits)).all(axis=1)
    assert is_number.tolist() == [True, True, False, True, True, True]
