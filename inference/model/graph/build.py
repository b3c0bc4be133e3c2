"""Builds the ONNX graph of any layer range [start, end) over unit files as external data. Reads no weight itself.

One layer is eleven nodes of ONNX Runtime's transformer operators. Shapes: B = 1, T rows of this call, C hidden width,
P positions of KV memory, R rows whose logits are asked.

    inputs   tokens [B,T] int64 (first shard) | hidden [B,T,C] fp32 (others)
             last_position [B] int32 = length of context after this call - 1;  total [] int32 = that length
             cos, sin [P',head_dim/2] fp32;  past_key.i, past_value.i [B,kv_heads,P,head_dim] per layer
             logit_rows [R] int64 (last shard)
    outputs  hidden_out [B,T,C]: residual stream after layer end-1;  embedded [B,T,C] (first shard)
             logits [R,V] (last shard);  present_key.i, present_value.i: bound to the memory of the past
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import TensorProto, helper

from inference.errors import ModelFormatError
from inference.model.layout import compute_file_name, compute_slots
from proto_specs.types.manifest import Architecture, UnitKind

OPSET = 18
IR_VERSION = 9
CONTRIB_DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class ShardRange:
    """Layers [start, end) of a model."""

    architecture: Architecture
    start: int
    end: int

    def __post_init__(self) -> None:
        layers = self.architecture.layers
        if not 0 <= self.start < self.end <= layers:
            raise ModelFormatError(f"[{self.start}, {self.end}) is not a range of the model's {layers} layers")

    @property
    def is_first(self) -> bool:
        """Whether the shard holds the embedding."""
        return self.start == 0

    @property
    def is_last(self) -> bool:
        """Whether the shard holds the final norm and the head."""
        return self.end == self.architecture.layers

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers it computes, in order."""
        return tuple(range(self.start, self.end))

    @property
    def units(self) -> tuple[tuple[UnitKind, int], ...]:
        """The weight units it reads. A last shard with tied embeddings reads EMBED for its head."""
        needs_embed = self.is_first or (self.is_last and self.architecture.tied_embeddings)
        embed = [(UnitKind.EMBED, 0)] if needs_embed else []
        head = [(UnitKind.HEAD, 0)] if self.is_last else []
        return (*embed, *((UnitKind.LAYER, one) for one in range(self.start, self.end)), *head)


@dataclass
class _Graph:
    """Nodes, weights and interface collected during the walk over the layers."""

    shard: ShardRange
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def node(self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> str:
        name = f"{outputs[0]}:{kind}"
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def add_norm(self, branch: str, residual: str, weight: str, output: str) -> tuple[str, str]:
        """(norm(branch + residual), branch + residual) in one node."""
        outputs = [output, "", "", f"{output}.residual"]
        kind, inputs = "SkipSimplifiedLayerNormalization", [branch, residual, weight]
        self.node(kind, inputs, outputs, CONTRIB_DOMAIN, epsilon=self.epsilon)
        return outputs[0], outputs[3]

    @property
    def epsilon(self) -> float:
        return float(self.shard.architecture.norm_epsilon)

    def unit(self, kind: UnitKind, index: int, prefix: str) -> None:
        """Declare every tensor of a unit file as external data."""
        for slot in compute_slots(self.shard.architecture, kind):
            tensor = TensorProto(name=f"{prefix}{slot.name}", data_type=TensorProto.FLOAT, dims=slot.shape)
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": compute_file_name(kind, index), "offset": slot.offset, "length": slot.size}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self.weights.append(tensor)

    def declare(self, name: str, kind: int, shape: list[int | str], is_output: bool = False) -> None:
        (self.outputs if is_output else self.inputs).append(helper.make_tensor_value_info(name, kind, shape))


def build_graph(shard: ShardRange) -> bytes:
    """Serialised ONNX model of the shard (a few tens of KiB); weights are referred to by unit file name."""
    graph = _Graph(shard)
    architecture = shard.architecture
    for kind, index in shard.units:
        graph.unit(kind, index, f"layer.{index}." if kind is UnitKind.LAYER else "")
    residual = _build_entry(graph)
    branch: str | None = None
    for layer in shard.layers:
        branch, residual = _build_layer(graph, layer, branch, residual)
    assert branch is not None, "a range has at least one layer"
    graph.node("Add", [branch, residual], ["hidden_out"])
    graph.declare("hidden_out", TensorProto.FLOAT, [1, "T", architecture.hidden], is_output=True)
    if shard.is_last:
        _build_head(graph)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB_DOMAIN, 1)]
    name = f"layers-{shard.start}-{shard.end}"
    body = helper.make_graph(graph.nodes, name, graph.inputs, graph.outputs, graph.weights)
    model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="myelin")
    data: bytes = model.SerializeToString()
    return data


def _build_entry(graph: _Graph) -> str:
    """Declares the inputs of the call; returns the name of the residual stream into the first layer, [B,T,C]."""
    architecture = graph.shard.architecture
    graph.declare("last_position", TensorProto.INT32, [1])
    graph.declare("total", TensorProto.INT32, [])
    for name in ("cos", "sin"):
        graph.declare(name, TensorProto.FLOAT, ["positions_rotary", architecture.head_dim // 2])
    width: list[int | str] = [1, "T", architecture.hidden]
    if not graph.shard.is_first:
        graph.declare("hidden", TensorProto.FLOAT, width)
        return "hidden"
    graph.declare("tokens", TensorProto.INT64, [1, "T"])
    graph.declare("embedded", TensorProto.FLOAT, width, is_output=True)
    return graph.node("Gather", ["embed", "tokens"], ["embedded"], axis=0)


def _build_layer(graph: _Graph, layer: int, branch: str | None, residual: str) -> tuple[str, str]:
    """Builds one decoder layer. Takes and returns the last branch (not yet added, None at first) and the residual."""
    p = f"layer.{layer}."
    if branch is None:
        # The same kernel as every other layer's norm, so that the place of a cut changes no bit.
        zero = graph.node("Sub", [residual, residual], [f"{p}zero"])
        normed, residual = graph.add_norm(zero, residual, f"{p}attn_norm", f"{p}x")
    else:
        normed, residual = graph.add_norm(branch, residual, f"{p}attn_norm", f"{p}x")
    packed = graph.node("MatMul", [normed, f"{p}qkv"], [f"{p}packed"])  # [B,T,(heads + 2 kv_heads) head_dim]
    attended = _build_attention(graph, layer, packed)
    projected = graph.node("MatMul", [attended, f"{p}attn_out"], [f"{p}projected"])  # [B,T,C]
    normed, residual = graph.add_norm(projected, residual, f"{p}ffn_norm", f"{p}y")
    gate = graph.node("MatMul", [normed, f"{p}gate"], [f"{p}gated"])  # [B,T,F]
    up = graph.node("MatMul", [normed, f"{p}up"], [f"{p}upped"])  # [B,T,F]
    silu = graph.node("QuickGelu", [gate], [f"{p}silu"], CONTRIB_DOMAIN, alpha=1.0)  # x * sigmoid(1 x) is SiLU
    mixed = graph.node("Mul", [silu, up], [f"{p}mixed"])
    return graph.node("MatMul", [mixed, f"{p}down"], [f"{p}branch"]), residual  # [B,T,C]


def _build_attention(graph: _Graph, layer: int, packed: str) -> str:
    """Grouped-query attention with rotary embedding over shared KV memory; output [B,T,heads head_dim]."""
    architecture = graph.shard.architecture
    memory: list[int | str] = [1, architecture.kv_heads, "P", architecture.head_dim]
    for part in ("key", "value"):
        graph.declare(f"past_{part}.{layer}", TensorProto.FLOAT, memory)
        graph.declare(f"present_{part}.{layer}", TensorProto.FLOAT, memory, is_output=True)
    past = [f"past_key.{layer}", f"past_value.{layer}"]
    outputs = [f"layer.{layer}.attended", f"present_key.{layer}", f"present_value.{layer}"]
    return graph.node(
        "GroupQueryAttention",
        [packed, "", "", *past, "last_position", "total", "cos", "sin"],
        outputs,
        CONTRIB_DOMAIN,
        num_heads=architecture.heads,
        kv_num_heads=architecture.kv_heads,
        do_rotary=1,
    )


def _build_head(graph: _Graph) -> None:
    """Logits of the requested rows only: prefill computes no unused logits."""
    architecture = graph.shard.architecture
    graph.declare("logit_rows", TensorProto.INT64, ["R"])
    graph.declare("logits", TensorProto.FLOAT, ["R", architecture.vocab], is_output=True)
    shape = helper.make_tensor("rows_shape", TensorProto.INT64, [2], [-1, architecture.hidden])
    graph.weights.append(shape)
    rows = graph.node("Reshape", ["hidden_out", "rows_shape"], ["rows"])  # [T,C]
    asked = graph.node("Gather", [rows, "logit_rows"], ["asked"], axis=0)  # [R,C]
    kind = "SimplifiedLayerNormalization"
    normed = graph.node(kind, [asked, "norm"], ["asked_normed"], epsilon=graph.epsilon, axis=-1)
    head = "embed" if architecture.tied_embeddings else "head"
    graph.node("Gemm", [normed, head], ["logits"], transB=1)
