"""DeepSeek V2 and V3: attention over a shared latent, experts in groups besides experts that all rows take.

The latent attention runs absorbed: queries are taken into the latent space by each head's key matrix, attend to the one
latent of a position as key and value, and are taken out by each head's value matrix. KV memory holds the latent alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from inference.model.checkpoint.source import Checkpoint
from inference.model.families import deepseek_settings
from inference.model.families.deepseek_settings import DeepseekDecoder
from inference.model.families.family import Cut, Decoder, Family, KvShape, Ref
from inference.model.families.rope import RopeScaling, Rotary, compute_yarn_mscale, make_rotary
from inference.model.families.sparse import GGUF_EXPERTS, find_experts, replace_ffn
from inference.model.forms import Role
from inference.model.graph.experts import Routing, build_experts, build_routing
from inference.model.graph.kit import GraphKit
from inference.model.layout import Part
from proto_specs.types.manifest import UnitKind


class Deepseek(Family):
    """DeepSeek V2, V2 Lite, V2.5, V3, V3.1, R1, and what has their graph (Moonlight)."""

    name = "deepseek"
    gguf_kinds = ("deepseek2",)
    hf_kinds = ("deepseek_v2", "deepseek_v3")
    decoder = DeepseekDecoder
    most: ClassVar[Mapping[str, int]] = {**Family.most, **deepseek_settings.MOST}

    def read_gguf(self, checkpoint: Checkpoint) -> DeepseekDecoder:
        """As `Family.read_gguf`."""
        return deepseek_settings.read_gguf(checkpoint)

    def read_hf(self, checkpoint: Checkpoint) -> DeepseekDecoder:
        """As `Family.read_hf`."""
        return deepseek_settings.read_hf(checkpoint)

    def check(self, decoder: Decoder) -> None:
        """As `Family.check`; the widths of heads fit each other, and the experts their groups."""
        super().check(decoder)
        deepseek_settings.check(f"the {self.name} model", _get(decoder))

    def list_layer_parts(self, decoder: Decoder, layer: int) -> tuple[Part, ...]:
        """Latent attention, then the plain feed-forward, or shared and chosen experts."""
        one = _get(decoder)
        hidden, queries = one.hidden, one.heads * (one.nope_dims + one.rope_dims)
        kv_a = Part("kv_a", Role.MATRIX, (one.head_dim, hidden), "latents")
        to_queries: tuple[Part, ...] = (Part("q", Role.MATRIX, (queries, hidden), "latents"), kv_a)
        if one.q_rank:
            to_queries = (
                Part("q_a", Role.MATRIX, (one.q_rank, hidden), "latents"),
                kv_a,
                Part("q_a_norm", Role.VECTOR, (one.q_rank,)),
                Part("q_b", Role.MATRIX, (queries, one.q_rank)),
            )
        attention = (
            Part("attn_norm", Role.VECTOR, (hidden,)),
            *to_queries,
            Part("kv_a_norm", Role.VECTOR, (one.kv_rank,)),
            Part("k_b", Role.HEADS, (one.heads, one.kv_rank, one.nope_dims)),
            Part("v_b", Role.HEADS, (one.heads, one.value_dims, one.kv_rank)),
            Part("attn_out", Role.MATRIX, (hidden, one.heads * one.value_dims)),
        )
        plain = {part.name: part for part in super().list_layer_parts(decoder, layer)}
        ffn = tuple(plain[name] for name in ("ffn_norm", "gate", "up", "down"))
        if not one.is_sparse(layer):
            return (*attention, *ffn)
        shared = (
            Part("shared_gate", Role.MATRIX, (one.shared_ffn, hidden), "shared"),
            Part("shared_up", Role.MATRIX, (one.shared_ffn, hidden), "shared"),
            Part("shared_down", Role.MATRIX, (hidden, one.shared_ffn)),
        )
        bias = (Part("router_bias", Role.VECTOR, (one.experts,)),) if one.is_biased else ()
        return (*attention, *replace_ffn(ffn, one), *bias, *shared)

    def find_gguf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Head matrices are split already, or whole in older files."""
        if kind is not UnitKind.LAYER or part not in _GGUF_NAMES:
            return super().find_gguf(decoder, part, kind, layer)
        if part in GGUF_EXPERTS and not _get(decoder).is_sparse(layer):
            return super().find_gguf(decoder, part, kind, layer)
        name = f"blk.{layer}.{_GGUF_NAMES[part]}"
        if part not in ("k_b", "v_b"):
            return Ref.of(name)
        return Ref((name,), otherwise=_cut_kv_b(f"blk.{layer}.attn_kv_b.weight", part, _get(decoder)))

    def find_hf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Head matrices are slices of kv_b_proj; each expert has tensors of its own, or they are stacked."""
        if kind is not UnitKind.LAYER:
            return super().find_hf(decoder, part, kind, layer)
        prefix, one = f"model.layers.{layer}.", _get(decoder)
        if part in ("k_b", "v_b"):
            return _cut_kv_b(f"{prefix}self_attn.kv_b_proj.weight", part, one)
        if part in GGUF_EXPERTS and one.is_sparse(layer):
            return find_experts(prefix, _HF_EXPERTS, part, one)
        if part in _HF_NAMES:
            return Ref.of(prefix + _HF_NAMES[part])
        return super().find_hf(decoder, part, kind, layer)

    def list_ignored(self, decoder: Decoder, checkpoint: Checkpoint) -> frozenset[str]:
        """Besides what all families ignore, the layers that predict tokens further ahead."""
        count = checkpoint.settings.get("num_nextn_predict_layers")
        ahead = range(decoder.layers, decoder.layers + count) if isinstance(count, int) else ()
        prefixes = tuple(f"model.layers.{layer}." for layer in ahead)
        return super().list_ignored(decoder, checkpoint) | {
            name for name in checkpoint.names() if name.startswith(prefixes)
        }

    def get_kv_shape(self, decoder: Decoder, layer: int) -> KvShape:
        """One latent with its rotated part, which is key and value."""
        return KvShape(1, decoder.head_dim, 0)

    def make_rotaries(self, decoder: Decoder) -> Mapping[str, Rotary]:
        """Of the dimensions that turn."""
        scaling = RopeScaling.from_text(decoder.rope_scaling)
        return {"rope": make_rotary(float(decoder.rope_theta), _get(decoder).rope_dims, scaling)}

    def build_attention(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """As `Family.build_attention`, over the latent."""
        one = _get(decoder)
        heads, nope, rope, rank = one.heads, one.nope_dims, one.rope_dims, one.kv_rank
        if one.q_rank:
            compressed, latent, turned = kit.split(kit.linear(normed, "q_a", "kv_a"), one.q_rank, rank, rope)
            queries = kit.linear(kit.norm(compressed, "q_a_norm"), "q_b")
        else:
            joined = kit.linear(normed, "q", "kv_a")
            queries, latent, turned = kit.split(joined, heads * (nope + rope), rank, rope)
        plain, turning = kit.split(kit.reshape(queries, -1, heads, nope + rope), nope, rope)  # [R, heads, ...]
        turning = kit.rotate(kit.reshape(turning, -1, heads * rope), heads, rope, is_interleaved=one.is_interleaved)
        absorbed = kit.linear_of_heads(plain, "k_b")  # [R, heads, rank]
        asked = kit.node("Concat", [absorbed, kit.reshape(turning, -1, heads, rope)], axis=-1)
        turned = kit.rotate(turned, 1, rope, is_interleaved=one.is_interleaved)
        key = kit.node("Concat", [kit.norm(latent, "kv_a_norm"), turned], axis=-1)  # [R, rank + rope]
        attended = kit.attend(
            kit.reshape(asked, -1, heads * (rank + rope)),
            heads,
            1,
            rank + rope,
            split=(key, key),
            rope="",
            scale=compute_softmax_scale(one),
        )
        latents, _ = kit.split(kit.reshape(attended, -1, heads, rank + rope), rank, rope)
        return kit.linear(kit.reshape(kit.linear_of_heads(latents, "v_b"), -1, heads * one.value_dims), "attn_out")

    def build_ffn(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """Shared experts plus the mixture of those chosen, in a sparse layer."""
        one = _get(decoder)
        if not one.is_sparse(layer):
            return super().build_ffn(kit, decoder, layer, normed)
        gate, up = kit.split(kit.linear(normed, "shared_gate", "shared_up"), one.shared_ffn, one.shared_ffn)
        shared = kit.linear(kit.multiply(kit.silu(gate), up), "shared_down")
        routing = Routing(
            one.experts,
            one.experts_chosen,
            one.renormalised,
            scale=float(one.expert_scale),
            by_sigmoid=one.by_sigmoid,
            groups=one.groups,
            groups_chosen=one.groups_chosen,
            group_best=2 if one.by_sigmoid else 1,
            passed_over=-math.inf if one.by_sigmoid else 0.0,
        )
        bias = kit.vector("router_bias") if one.is_biased else None
        chosen, weights = build_routing(kit, kit.linear(normed, "router"), routing, bias)
        return build_experts(kit, normed, chosen, weights, one.experts, base=shared)


def compute_softmax_scale(decoder: DeepseekDecoder) -> float:
    """What scores of the attention are multiplied with: with yarn's temperature, squared, where the scaling has one."""
    scale = (decoder.nope_dims + decoder.rope_dims) ** -0.5
    scaling = RopeScaling.from_text(decoder.rope_scaling)
    if scaling is None or scaling.kind != "yarn" or not scaling.numbers[-1]:
        return float(scale)
    return float(scale * compute_yarn_mscale(scaling.numbers[0], scaling.numbers[-1]) ** 2)


_GGUF_NAMES: Mapping[str, str] = {
    **GGUF_EXPERTS,
    "q_a": "attn_q_a.weight",
    "q_a_norm": "attn_q_a_norm.weight",
    "q_b": "attn_q_b.weight",
    "kv_a": "attn_kv_a_mqa.weight",
    "kv_a_norm": "attn_kv_a_norm.weight",
    "k_b": "attn_k_b.weight",
    "v_b": "attn_v_b.weight",
    "router_bias": "exp_probs_b.bias",
    "shared_gate": "ffn_gate_shexp.weight",
    "shared_up": "ffn_up_shexp.weight",
    "shared_down": "ffn_down_shexp.weight",
}

_HF_NAMES: Mapping[str, str] = {
    "q_a": "self_attn.q_a_proj.weight",
    "q_a_norm": "self_attn.q_a_layernorm.weight",
    "q_b": "self_attn.q_b_proj.weight",
    "kv_a": "self_attn.kv_a_proj_with_mqa.weight",
    "kv_a_norm": "self_attn.kv_a_layernorm.weight",
    "router_bias": "mlp.gate.e_score_correction_bias",
    "shared_gate": "mlp.shared_experts.gate_proj.weight",
    "shared_up": "mlp.shared_experts.up_proj.weight",
    "shared_down": "mlp.shared_experts.down_proj.weight",
}

_HF_EXPERTS: Mapping[str, str] = {
    "router": "mlp.gate.weight",
    "gate": "mlp.experts.{}.gate_proj.weight",
    "up": "mlp.experts.{}.up_proj.weight",
    "down": "mlp.experts.{}.down_proj.weight",
    "stacked_gate_up": "mlp.experts.gate_up_proj",
    "stacked_down": "mlp.experts.down_proj",
}


def _cut_kv_b(name: str, part: str, decoder: DeepseekDecoder) -> Ref:
    """The key or value matrices within kv_b [heads (nope + value), rank]: the keys' are used the other way round."""
    nope, both = decoder.nope_dims, decoder.nope_dims + decoder.value_dims
    cut = Cut(0, nope, both, is_flat=True, transposed=True) if part == "k_b" else Cut(nope, both, both, is_flat=True)
    return Ref((name,), cut=cut)


def _get(decoder: Decoder) -> DeepseekDecoder:
    assert isinstance(decoder, DeepseekDecoder), "the family reads its own settings"
    return decoder


FAMILY = Deepseek()
