"""Every node of every family's graphs, in every form, has a kernel for its types where it is to run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import GraphProto, NodeProto, TensorProto

from inference.model.forms import Role
from inference.model.graph.build import build_graph
from inference.model.graph.provider import Provider
from inference.model.graph.shard import ShardRange
from inference.model.layout import Part, can_hold, compute_unit_bytes, place_tensors
from proto_specs.types.manifest import Form, Manifest
from tests.unit.inference.model.families import reference
from tests.unit.inference.model.families.cases import MAIN, WIDE
from tests.unit.inference.model.families.sparse_cases import SPARSE_MAIN, SPARSE_WIDE

TABLE: dict[str, Any] = json.loads((Path(__file__).parents[4] / "fixtures" / "kernels.json").read_text())
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TYPES = {
    TensorProto.FLOAT: "float",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool",
    TensorProto.FLOAT8E4M3FN: "float8e4m3fn",
}


def choose_form(part: Part, form: Form) -> Form:
    """The form, or the nearest that the part can have."""
    if part.role is Role.VECTOR:
        return Form.FP32
    return form if can_hold(form, part) else Form.FP16


def with_form(manifest: Manifest, form: Form) -> Manifest:
    """The manifest of the same model in another form: graphs are built of manifests alone."""
    shard = ShardRange(manifest, 0, manifest.architecture.layers)
    units = []
    for unit in manifest.units:
        parts = shard.get_parts(unit.kind, unit.index)
        forms = tuple(choose_form(part, form) for part in parts)
        size = compute_unit_bytes(place_tensors(parts, forms)) if parts else unit.bytes_total
        units.append(replace(unit, forms=forms, bytes_total=size))
    return replace(manifest, units=tuple(units))


def build(manifest: Manifest, form: Form, provider: Provider) -> onnx.ModelProto:
    data = build_graph(ShardRange(with_form(manifest, form), 0, manifest.architecture.layers), provider)
    return onnx.load_model_from_string(data)


def find_schema(node: NodeProto, opset: int) -> Mapping[str, Any]:
    """The newest of the opset. Fails for an operator that the table does not have: add it to make_kernels.py."""
    name = f"{node.domain}.{node.op_type}".removeprefix(".")
    assert name in TABLE["schemas"], f"{name} is not among OPERATORS of make_kernels.py"
    limit = 1 if node.domain else opset
    found: Mapping[str, Any] = max(
        (one for one in TABLE["schemas"][name] if one["since"] <= limit), key=lambda one: one["since"]
    )
    return {**found, "name": name}


def pair_names(kinds: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The type parameter of each input or output that is there; the last parameter may repeat."""
    for place, name in enumerate(names):
        if name:
            yield kinds[min(place, len(kinds) - 1)], name


def bind_types(node: NodeProto, schema: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    """What each type parameter of a node is, from its inputs and attributes."""
    bound: dict[str, str] = dict(schema["single"])
    for kind, name in pair_names(schema["inputs"], node.input):
        if not kind.startswith("tensor("):
            assert bound.setdefault(kind, known[name]) == known[name], f"{node.name}: {kind} is two types"
        else:
            assert kind == f"tensor({known[name]})", f"{node.name}: {name} is {known[name]}"
    if node.op_type == "DequantizeLinear":  # no output_dtype: that of the scale
        bound[schema["outputs"][0]] = known[node.input[1]]
    for attribute in node.attribute:
        if (node.op_type, attribute.name) == ("Cast", "to"):
            bound[schema["outputs"][0]] = TYPES[attribute.i]
        if (node.op_type, attribute.name) == ("ConstantOfShape", "value"):
            bound[schema["outputs"][0]] = TYPES[attribute.t.data_type]
    return bound


def has_kernel(schema: Mapping[str, Any], bound: Mapping[str, str], provider: str) -> bool:
    """As the runtime looks for one: an open-ended kernel is for the very version of the operator."""
    for one in TABLE["kernels"][provider].get(schema["name"], ()):
        since, until = one["since"], one["until"]
        is_version = since == schema["since"] or (until is not None and since <= schema["since"] <= until)
        if is_version and all(bound[name] in kinds for name, kinds in one["types"].items() if name in bound):
            return True
    return False


def find_unsupported(model: onnx.ModelProto, provider: str) -> set[str]:
    """Nodes of a graph and its branches without a kernel: operators with their types."""
    opset = next(one.version for one in model.opset_import if not one.domain)
    known = {one.name: TYPES[one.type.tensor_type.elem_type] for one in model.graph.input}
    return set(_find_in_graph(model.graph, dict(known), opset, provider))


def _find_in_graph(graph: GraphProto, known: dict[str, str], opset: int, provider: str) -> Iterator[str]:
    known |= {one.name: TYPES[one.data_type] for one in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = dict(known)
                yield from _find_in_graph(attribute.g, inner, opset, provider)
                known |= dict(zip(node.output, (inner[one.name] for one in attribute.g.output), strict=True))
        schema = find_schema(node, opset)
        bound = bind_types(node, schema, known)
        for kind, name in pair_names(schema["outputs"], node.output):
            if name not in known:
                known[name] = kind[7:-1] if kind.startswith("tensor(") else bound[kind]
        if not has_kernel(schema, bound, provider):
            yield f"{schema['name']} {' '.join(f'{name}={one}' for name, one in sorted(bound.items()))}"


@pytest.fixture(scope="module", params=[*MAIN, *WIDE, *SPARSE_MAIN, *SPARSE_WIDE], ids=str)
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp(request.param.name)
    checkpoint = reference.save_model(reference.make_model(request.param), root / "checkpoint")
    return reference.import_path(checkpoint, root / "models").manifest


@pytest.mark.parametrize("form", Form, ids=lambda one: one.name)
def test_the_cpu_graph_runs_on_cpus(manifest: Manifest, form: Form) -> None:
    assert find_unsupported(build(manifest, form, Provider.CPU), CPU) == set()


@pytest.mark.parametrize("provider", [CPU, CUDA])
@pytest.mark.parametrize("form", Form, ids=lambda one: one.name)
def test_the_cuda_graph_runs_on_both(manifest: Manifest, form: Form, provider: str) -> None:
    assert find_unsupported(build(manifest, form, Provider.CUDA), provider) == set()


def test_cuda_has_no_fused_attention_of_fp32(manifest: Manifest) -> None:
    """Why there are two graphs; and that the table can say no."""
    missing = find_unsupported(build(manifest, Form.FP32, Provider.CPU), CUDA)
    assert {one.partition(" ")[0] for one in missing} == {"com.microsoft.GroupQueryAttention"}


def test_the_table_is_of_this_runtime() -> None:
    assert TABLE["version"] == onnxruntime.__version__, "run python -m tests.fixtures.make_kernels"
