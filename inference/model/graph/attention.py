"""Attention of plain operators over KV memory, for processors whose GroupQueryAttention has no fp32 kernel (CUDA).

The same numbers as that operator, from the same memory, which it extends in place. What it costs besides: a copy of the
valid part of a layer's keys and values in each call, which a fused kernel reads where they lie, and scores of
B x heads x T x S values, S the longest sequence of the call: 4 bytes each, and at most three of such arrays at a time.

Shapes: B sequences x T rows; K heads of keys, G = heads / K queries to each, D wide; P positions of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

if TYPE_CHECKING:
    from inference.model.graph.kit import GraphKit

CONTRIB_DOMAIN = "com.microsoft"
_BY_HEADS = (0, 2, 1, 3)
_BY_GROUPS = (0, 2, 1, 3, 4)


def build_attention(
    kit: GraphKit, rows: Sequence[str], heads: int, kv_heads: int, head_dim: int, scale: float, window: int
) -> str:
    """Queries [R, heads D], keys and values [R, K D], turned already; returns [R, heads D].

    Writes keys and values to `present_key.i` and `present_value.i`, which are bound to the memory of the past.
    """
    group = heads // kv_heads
    queries, keys, values = rows
    keys = _extend(kit, "key", keys, kv_heads, head_dim)
    values = _extend(kit, "value", values, kv_heads, head_dim)
    # What lies behind a sequence's end may be no number, and nothing times that is none either.
    values = kit.node("Where", [kit.once("held", lambda: _build_held(kit)), values, _number(kit, 0.0)])
    by_group = kit.node("Transpose", [kit.batch_as(queries, kv_heads, group, head_dim)], perm=_BY_GROUPS)
    packed = kit.reshape(by_group, 0, 0, -1, head_dim)  # [B, K, T G, D]
    scores = kit.node("FusedMatMul", [packed, keys], CONTRIB_DOMAIN, transB=1, alpha=scale)  # [B, K, T G, S]
    seen = kit.once(f"seen.{group}.{window}", lambda: _build_seen(kit, group, window))
    scores = kit.node("Where", [seen, scores, _number(kit, -np.inf)])
    attended = kit.node("MatMul", [kit.node("Softmax", [scores], axis=-1), values])  # [B, K, T G, D]
    attended = kit.node("Transpose", [kit.reshape(attended, 0, 0, -1, group, head_dim)], perm=_BY_GROUPS)
    return kit.reshape(attended, -1, heads * head_dim)


def _extend(kit: GraphKit, part: str, rows: str, kv_heads: int, head_dim: int) -> str:
    """Rows [R, K D] written behind those in memory; returns its positions up to the longest sequence, [B, K, S, D]."""
    by_head = kit.node("Transpose", [kit.batch_as(rows, kv_heads, head_dim)], perm=_BY_HEADS)
    places = kit.once("first_positions", lambda: _build_first_positions(kit))
    past, present = f"past_{part}.{kit.layer}", f"present_{part}.{kit.layer}"
    whole = kit.node("TensorScatter", [past, by_head, places], outputs=[present], axis=2)
    return _cut(kit, whole, axis=2)


def _cut(kit: GraphKit, whole: str, axis: int) -> str:
    """The first S along an axis."""
    return kit.node("Slice", [whole, _integer(kit, 0), "total", _integer(kit, axis)])


def _build_first_positions(kit: GraphKit) -> str:
    """Where the first row of each sequence goes, [B] int64."""
    return kit.node("Gather", [kit.get_positions(), _scalar(kit, 0)], axis=1)


def _get_places(kit: GraphKit) -> str:
    """0 .. S - 1, int64."""
    return kit.once("places.cut", lambda: _cut(kit, "places", axis=0))


def _build_held(kit: GraphKit) -> str:
    """Which positions of memory hold a row of their sequence, [B, 1, S, 1] bool."""
    places = kit.reshape(_get_places(kit), 1, 1, -1, 1)
    last = kit.node("Cast", ["last_position"], to=TensorProto.INT64)
    return kit.node("LessOrEqual", [places, kit.reshape(last, -1, 1, 1, 1)])


def _build_seen(kit: GraphKit, group: int, window: int) -> str:
    """Which positions each query sees, [B, 1, T G, S] bool."""
    rows = kit.node("Unsqueeze", [kit.get_positions(), _integer(kit, 2)])  # [B, T, 1]
    rows = kit.node("Expand", [rows, kit.constant(f"group.{group}", np.array([1, 1, group], np.int64))])
    rows = kit.node("Unsqueeze", [kit.reshape(rows, 0, -1, 1), _integer(kit, 1)])  # [B, 1, T G, 1]
    seen = kit.node("LessOrEqual", [_get_places(kit), rows])
    if not window:
        return seen
    before = kit.node("Sub", [rows, _scalar(kit, window)])
    return kit.node("And", [seen, kit.node("Greater", [_get_places(kit), before])])


def _integer(kit: GraphKit, value: int) -> str:
    return kit.constant(f"integers.{value}", np.array([value], np.int64))


def _scalar(kit: GraphKit, value: int) -> str:
    return kit.constant(f"integer.{value}", np.array(value, np.int64))


def _number(kit: GraphKit, value: float) -> str:
    return kit.constant(f"number.{value!r}", np.array(value, np.float32))
