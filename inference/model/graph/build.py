"""Builds the ONNX graph of any layer range [start, end) over unit files as external data. Reads no weight itself.

Shapes: R rows of a call; B sequences of T positions each, which all have rows, or on a CPU some of them; C hidden
width; P positions of KV memory; A rows whose logits are asked; V vocabulary.

    inputs   hidden [R,C] fp32: the residual stream before layer `start` (embedded rows for a first shard)
             batch [1] int64 = B;  row_of_place [B T], place_of_row [R] int64: which row is which position of which
             sequence, and the other way round; a place without a row names any
             last_position [B] int32 = length of each sequence after this call - 1
             total [] int32 = the longest of those lengths;  cos.NAME, sin.NAME [P',dims/2] fp32 per rotary embedding
             past_key.i [B,heads,P,key width], past_value.i per layer
             logit_rows [A] int64 (last shard)
             for CUDA total is [1] int64, and instead of batch there are: positions [B,T] int64 of the rows;
             places [P'] int64 = 0, 1, ..; given.* int64: shapes, as their names say (GIVEN_SHAPE of kit.py)
    outputs  hidden_out [R,C]: residual stream after layer end-1;  logits [A,V] (last shard)
             present_key.i, present_value.i: bound to the memory of the past
"""

from __future__ import annotations

import itertools

from onnx import TensorProto, helper

from inference.model.forms import Role
from inference.model.graph.kit import CONTRIB_DOMAIN, GraphKit, Residual
from inference.model.graph.product import INT8_LEVEL
from inference.model.graph.provider import Provider
from inference.model.graph.shard import ShardRange
from inference.model.layout import compute_file_name
from proto_specs.types.manifest import ServiceClass, UnitKind

OPSET = 21
OPSET_CUDA = 24
"""The first with TensorScatter, which writes to KV memory in place."""
IR_VERSION = 10
BRANCHES_MAX = 256
"""Branches of one graph: the time in which the runtime loads it grows with their square."""


def build_graph(shard: ShardRange, provider: Provider = Provider.CPU) -> bytes:
    """Serialised ONNX model of the shard (tens of KiB); weights are referred to by unit file name.

    It is built of operators that `provider` has kernels for. The graph for CUDA runs on a CPU too, only slower.
    """
    family, decoder = shard.family, shard.decoder
    manifest = shard.manifest
    kit = GraphKit(
        float(decoder.norm_epsilon),
        provider,
        level=INT8_LEVEL if manifest.service_class == ServiceClass.FAST else 0,
        has_equal_bits=manifest.profile.decode_rows > 1,
    )
    _declare_inputs(kit, shard)
    residual = Residual("hidden")
    for layer in shard.layers:
        tensors = shard.get_tensors(UnitKind.LAYER, layer)
        kit.enter(f"layer.{layer}.", compute_file_name(UnitKind.LAYER, layer), tensors, layer)
        _declare_memory(kit, shard, layer)
        residual = family.build_layer(kit, decoder, layer, residual)
    assert residual.branch is not None, "a layer ends with a branch"
    kit.node("Add", [residual.branch, residual.stream], outputs=["hidden_out"])
    kit.declare("hidden_out", TensorProto.FLOAT, ["R", decoder.hidden], is_output=True)
    if shard.is_last:
        _build_head(kit, shard)
    opsets = [
        helper.make_opsetid("", OPSET_CUDA if provider is Provider.CUDA else OPSET),
        helper.make_opsetid(CONTRIB_DOMAIN, 1),
    ]
    name = f"layers-{shard.start}-{shard.end}"
    body = helper.make_graph(kit.nodes, name, kit.inputs, kit.outputs, kit.initializers)
    model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="myelin")
    data: bytes = model.SerializeToString()
    return data


def list_pieces(shard: ShardRange) -> tuple[ShardRange, ...]:
    """The shard in the ranges of layers that are loaded as one graph each: one, unless it has very many experts."""
    cuts, branches = [shard.start], 0
    for layer in shard.layers:
        parts = shard.get_parts(UnitKind.LAYER, layer)
        experts = max((one.shape[0] for one in parts if one.role is Role.EXPERTS), default=0)
        if branches + experts > BRANCHES_MAX and layer > cuts[-1]:
            cuts.append(layer)
            branches = 0
        branches += experts
    bounds = itertools.pairwise([*cuts, shard.end])
    return tuple(ShardRange(shard.manifest, start, end) for start, end in bounds)


def _declare_inputs(kit: GraphKit, shard: ShardRange) -> None:
    kit.declare("hidden", TensorProto.FLOAT, ["R", shard.decoder.hidden])
    if kit.provider is Provider.CPU:
        kit.declare("batch", TensorProto.INT64, [1])
        kit.declare("row_of_place", TensorProto.INT64, ["places"])
        kit.declare("place_of_row", TensorProto.INT64, ["R"])
    kit.declare("last_position", TensorProto.INT32, ["B"])
    if kit.provider is Provider.CUDA:
        kit.declare("total", TensorProto.INT64, [1])
        kit.declare("positions", TensorProto.INT64, ["B", "T"])
        kit.declare("places", TensorProto.INT64, ["places"])
    else:
        kit.declare("total", TensorProto.INT32, [])
    for name, rotary in shard.family.make_rotaries(shard.decoder).items():
        for part in ("cos", "sin"):
            kit.declare(f"{part}.{name}", TensorProto.FLOAT, ["positions_rotary", len(rotary.frequencies)])


def _declare_memory(kit: GraphKit, shard: ShardRange, layer: int) -> None:
    shape = shard.family.get_kv_shape(shard.decoder, layer)
    for part, width in (("key", shape.key_width), ("value", shape.value_width or shape.key_width)):
        memory: list[int | str] = ["B", shape.heads, "P", width]
        kit.declare(f"past_{part}.{layer}", TensorProto.FLOAT, memory)
        kit.declare(f"present_{part}.{layer}", TensorProto.FLOAT, memory, is_output=True)


def _build_head(kit: GraphKit, shard: ShardRange) -> None:
    """Logits of the requested rows only: prefill computes no unused logits."""
    kit.declare("logit_rows", TensorProto.INT64, ["A"])
    kit.declare("logits", TensorProto.FLOAT, ["A", shard.decoder.vocab], is_output=True)
    kit.enter("head.", compute_file_name(UnitKind.HEAD, 0), shard.get_tensors(UnitKind.HEAD, 0))
    asked = kit.node("Gather", ["hidden_out", "logit_rows"], axis=0)  # [A,C]
    normed = kit.norm(asked, "norm")
    if shard.decoder.tied_embeddings:
        kit.enter("embed.", compute_file_name(UnitKind.EMBED, 0), shard.get_tensors(UnitKind.EMBED, 0))
    logits = kit.linear(normed, "embed" if shard.decoder.tied_embeddings else "head")
    kit.node("Identity", [shard.family.build_logits(kit, shard.decoder, logits)], outputs=["logits"])
