"""Attention whose queries and keys are normed head by head before they turn, as several families have it."""

from __future__ import annotations

from inference.model.families.family import Decoder
from inference.model.forms import Role
from inference.model.graph.kit import GraphKit
from inference.model.layout import Part


def list_head_norms(decoder: Decoder) -> tuple[Part, ...]:
    """The parts that such a layer has besides the plain ones."""
    return tuple(Part(name, Role.VECTOR, (decoder.head_dim,)) for name in ("q_norm", "k_norm"))


def attend_normed(
    kit: GraphKit, decoder: Decoder, layer: int, normed: str, rope: str = "rope", scale: float | None = None
) -> str:
    """Grouped-query attention over the layer's normed input [R, C]; returns [R, heads head_dim]."""
    heads, kv_heads, head_dim = decoder.heads, decoder.kv_heads, decoder.head_dim
    packed = kit.linear(normed, "q", "k", "v")  # [R, (heads + 2 kv_heads) head_dim]
    queries, keys, values = kit.split(packed, heads * head_dim, kv_heads * head_dim, kv_heads * head_dim)
    queries = kit.norm_heads(queries, "q_norm", heads, head_dim)
    keys = kit.norm_heads(keys, "k_norm", kv_heads, head_dim)
    window = decoder.get_window(layer)
    return kit.attend(queries, heads, kv_heads, head_dim, split=(keys, values), rope=rope, scale=scale, window=window)
