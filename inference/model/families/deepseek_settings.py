"""DeepSeek's settings, as GGUF and as config.json state them. Knows no tensor and no graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inference.errors import ModelFormatError
from inference.model.checkpoint.rope_settings import read_rope
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.plain import LAYERS_MAX, POSITIONS_MAX, read_rope_scaling
from inference.model.families.reading import Stated, write_decimal
from inference.model.families.rope import RopeScaling
from inference.model.families.sparse import EXPERTS_MAX, EXPERTS_MOST, SparseDecoder, check_routing

_SIGMOID = 2
_SOFTMAX = 1
"""Values of GGUF's expert_gating_func."""
_LOG_STEP = 0.1
"""GGUF states yarn's mscale of all dimensions times this."""
_WIDTH_STEP = 8
MOST = {
    **EXPERTS_MOST,
    **dict.fromkeys(("q_rank", "kv_rank", "nope_dims", "rope_dims", "value_dims"), 1 << 14),
    **dict.fromkeys(("groups", "groups_chosen"), EXPERTS_MAX),
    "shared_ffn": 1 << 18,
}
"""As `Family.most`."""
_V3_DEFAULTS: dict[str, object] = {
    "q_lora_rank": 1536,
    "n_group": 8,
    "topk_group": 4,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
}
_V2_DEFAULTS: dict[str, object] = {
    "q_lora_rank": 1536,
    "routed_scaling_factor": 1.0,
    "n_shared_experts": 2,
    "first_k_dense_replace": 0,
    "topk_method": "greedy",
}


@dataclass(frozen=True)
class DeepseekDecoder(SparseDecoder):
    """Latent attention: `q_rank` of compressed queries (0: not compressed), `kv_rank` of the latent; `head_dim` is that
    of the latent with its rotated part. A head has `nope_dims` + `rope_dims` for keys and `value_dims` for values.

    Experts are in `groups`, of which `groups_chosen` are considered; `shared_ffn` is the width of all shared ones.
    """

    q_rank: int = 0
    kv_rank: int = 0
    nope_dims: int = 0
    rope_dims: int = 0
    value_dims: int = 0
    is_interleaved: bool = True
    shared_ffn: int = 0
    by_sigmoid: bool = False
    is_biased: bool = False
    groups: int = 1
    groups_chosen: int = 1
    expert_scale: str = "1.0"


def read_hf(checkpoint: Checkpoint) -> DeepseekDecoder:
    """The decoder of a config.json. Raises ModelFormatError, with the reason, for what cannot be run."""
    is_v3 = checkpoint.kind == "deepseek_v3"
    stated = Stated(checkpoint, defaults=_V3_DEFAULTS if is_v3 else _V2_DEFAULTS)
    for key in ("attention_bias", "mlp_bias"):
        stated.expect(key, False)
    stated.expect("hidden_act", "silu")
    stated.expect("moe_layer_freq", 1)
    stated.expect("scoring_func", "sigmoid" if is_v3 else "softmax")
    method = stated.text("topk_method", "noaux_tc") if is_v3 else stated.text("topk_method")
    if method not in (("noaux_tc",) if is_v3 else ("greedy", "group_limited_greedy")):
        raise ModelFormatError(f"topk_method {method!r:.40} of {stated.where} is not supported")
    stated.skip("rope_theta", "rope_scaling", "rope_parameters", "head_dim", "qk_head_dim", "num_key_value_heads")
    rope = read_rope(stated.values)
    scaling = read_rope_scaling(checkpoint, rope.scaling)
    layers, width = stated.integer("num_hidden_layers", most=LAYERS_MAX), stated.integer("moe_intermediate_size")
    groups = stated.integer("n_group", 1), stated.integer("topk_group", 1)
    if not is_v3:  # transformers and llama.cpp pass it over; the published code of V2 does not
        stated.expect("norm_topk_prob", False)
    decoder = DeepseekDecoder(
        layers=layers,
        hidden=stated.integer("hidden_size"),
        vocab=stated.integer("vocab_size"),
        context_max=stated.integer("max_position_embeddings", most=POSITIONS_MAX),
        heads=stated.integer("num_attention_heads"),
        ffn=stated.integer("intermediate_size"),
        rope_theta=write_decimal(rope.theta),
        norm_epsilon=stated.decimal("rms_norm_eps", 1e-6),
        tied_embeddings=stated.flag("tie_word_embeddings", False),
        rope_scaling="" if scaling is None else scaling.to_text(),
        experts=stated.integer("n_routed_experts", stated.values.get("num_local_experts", 256), most=EXPERTS_MAX),
        experts_chosen=stated.integer("num_experts_per_tok", 8, most=EXPERTS_MAX),
        expert_ffn=width,
        renormalised=is_v3 and stated.flag("norm_topk_prob"),
        dense_layers=(1 << stated.integer("first_k_dense_replace", 0, least=0, most=layers)) - 1,
        q_rank=stated.integer("q_lora_rank", 0, least=0),
        is_interleaved=stated.flag("rope_interleave", True),
        shared_ffn=width * stated.integer("n_shared_experts"),
        by_sigmoid=is_v3,
        is_biased=is_v3,
        expert_scale=stated.decimal("routed_scaling_factor"),
        **_make_groups(*groups) if method != "greedy" else {},
        **_make_widths(
            stated,
            stated.integer("kv_lora_rank", 512),
            stated.integer("qk_nope_head_dim", 128),
            stated.integer("qk_rope_head_dim", 64),
            stated.integer("v_head_dim", 128),
        ),
    )
    stated.skip("num_local_experts", "num_experts")
    check(stated.where, decoder)
    stated.finish()
    return decoder


def read_gguf(checkpoint: Checkpoint) -> DeepseekDecoder:
    """The same from GGUF metadata."""
    stated = Stated(checkpoint, "deepseek2.")
    stated.expect("nextn_predict_layers", 0)
    layers, width = stated.integer("block_count", most=LAYERS_MAX), stated.integer("expert_feed_forward_length")
    heads, rank = stated.integer("attention.head_count"), stated.integer("attention.kv_lora_rank")
    rope, context = stated.integer("rope.dimension_count"), stated.integer("context_length", most=POSITIONS_MAX)
    # Newer files state the latent's width as that of keys, and the heads' own apart.
    key = stated.integer("attention.key_length_mla", stated.integer("attention.key_length"))
    value = stated.integer("attention.value_length_mla", stated.integer("attention.value_length"))
    stated.expect("attention.head_count_kv", 1, heads)
    names = checkpoint.names()
    is_biased = any(name.endswith(".exp_probs_b.bias") for name in names)
    # Converters leave the function out where config.json does. A bias is V3's, whose function is the sigmoid.
    gating = stated.integer("expert_gating_func", _SIGMOID if is_biased else _SOFTMAX, most=_SIGMOID)
    if gating != _SIGMOID:
        stated.expect("expert_weights_norm", False)
    groups = stated.integer("expert_group_count", 1), stated.integer("expert_group_used_count", 1)
    decoder = DeepseekDecoder(
        layers=layers,
        hidden=stated.integer("embedding_length"),
        vocab=checkpoint.get_shape("token_embd.weight")[0],
        context_max=context,
        heads=heads,
        ffn=stated.integer("feed_forward_length"),
        rope_theta=stated.decimal("rope.freq_base", 10_000.0),
        norm_epsilon=stated.decimal("attention.layer_norm_rms_epsilon"),
        tied_embeddings="output.weight" not in names,
        rope_scaling=_read_gguf_scaling(stated, context),
        experts=stated.integer("expert_count", most=EXPERTS_MAX),
        experts_chosen=stated.integer("expert_used_count", most=EXPERTS_MAX),
        expert_ffn=width,
        renormalised=stated.flag("expert_weights_norm", False),
        dense_layers=(1 << stated.integer("leading_dense_block_count", 0, least=0, most=layers)) - 1,
        q_rank=stated.integer("attention.q_lora_rank", 0, least=0),
        shared_ffn=width * stated.integer("expert_shared_count"),
        by_sigmoid=gating == _SIGMOID,
        is_biased=is_biased,
        expert_scale=stated.decimal("expert_weights_scale", 1.0),
        **_make_groups(*groups),
        **_make_widths(stated, rank, key - rope, rope, value),
    )
    check(stated.where, decoder)
    stated.finish()
    return decoder


def _make_groups(groups: int, chosen: int) -> dict[str, Any]:
    return {"groups": groups, "groups_chosen": chosen} if chosen < groups else {}


def _make_widths(stated: Stated, rank: int, nope: int, rope: int, value: int) -> dict[str, Any]:
    """The widths of heads. Raises ModelFormatError for those that the runtime's attention refuses."""
    if nope < 1 or rope % 2 or (rank + rope) % _WIDTH_STEP:
        raise ModelFormatError(
            f"heads of {stated.where} have {nope} + {rope} dimensions over a latent of {rank}: the runtime's attention"
            f" takes latents of a multiple of {_WIDTH_STEP}"
        )
    widths = {"kv_rank": rank, "nope_dims": nope, "rope_dims": rope, "value_dims": value}
    return {"kv_heads": 1, "head_dim": rank + rope, **widths}


def _read_gguf_scaling(stated: Stated, context: int) -> str:
    kind = stated.text("rope.scaling.type", "none")
    factor = float(stated.decimal("rope.scaling.factor", 1.0))
    original = stated.integer("rope.scaling.original_context_length", context)
    mscale = float(stated.optional_decimal("rope.scaling.yarn_log_multiplier") or 0) / _LOG_STEP
    if kind == "none":
        return ""
    if kind != "yarn":
        raise ModelFormatError(f"rotary scaling {kind!r:.40} of {stated.where} is not supported")
    fast, slow = (
        float(stated.decimal(f"rope.scaling.yarn_beta_{key}", default)) for key, default in (("fast", 32), ("slow", 1))
    )
    mscale = float(f"{mscale:.6g}")  # 0.0707 in fp32 is meant as 0.707
    return RopeScaling("yarn", (factor, fast, slow, float(original), mscale, mscale)).to_text()


def check(where: str, decoder: DeepseekDecoder) -> None:
    """Raises ModelFormatError for widths that do not fit each other, or a choice of experts that cannot be made."""
    widths = decoder.kv_rank, decoder.nope_dims, decoder.rope_dims, decoder.value_dims
    if 0 in widths or decoder.rope_dims % 2 or decoder.head_dim != decoder.kv_rank + decoder.rope_dims:
        raise ModelFormatError(
            f"{where} has heads {decoder.head_dim} wide of {', '.join(map(str, widths))}, which cannot be: it is"
            " damaged, fetch it again"
        )
    if decoder.kv_heads != 1 or not 1 <= decoder.groups_chosen <= decoder.groups:
        raise ModelFormatError(
            f"{where} has {decoder.kv_heads} latents and takes {decoder.groups_chosen} of {decoder.groups} groups of"
            " experts, which cannot be: it is damaged, fetch it again"
        )
    check_routing(where, decoder)
    members, rest = divmod(decoder.experts, decoder.groups)
    if rest or decoder.experts_chosen > decoder.groups_chosen * members or (decoder.groups > 1 and members < 2):
        raise ModelFormatError(
            f"{where} takes {decoder.experts_chosen} of {decoder.experts} experts in {decoder.groups_chosen} of"
            f" {decoder.groups} groups, which cannot be: it is damaged, fetch it again"
        )
