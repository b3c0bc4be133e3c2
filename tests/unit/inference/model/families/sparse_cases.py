"""The tiny models of the families with experts, plain and with each option that changes what they compute."""

from __future__ import annotations

from typing import Any

from transformers import DeepseekV2Config, DeepseekV3Config, MixtralConfig, Qwen3MoeConfig

from tests.unit.inference.model.families.cases import WINDOW, make_config, make_scaling
from tests.unit.inference.model.families.reference import Case

_MIXTRAL: dict[str, Any] = {"num_local_experts": 6, "num_experts_per_tok": 2}
_QWEN: dict[str, Any] = {
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}

_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 48,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 20,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}
_V3: dict[str, Any] = {**_LATENT, "n_shared_experts": 1, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5}
_V2: dict[str, Any] = {**_LATENT, "n_shared_experts": 2, "routed_scaling_factor": 1.5}
_V3_YARN = make_scaling(
    "yarn", factor=40.0, original_max_position_embeddings=64, mscale=1.0, mscale_all_dim=1.0, beta_fast=32, beta_slow=1
)
_V2_YARN = make_scaling("yarn", factor=40.0, original_max_position_embeddings=64, mscale=0.707, mscale_all_dim=0.707)

SPARSE_MAIN = (
    Case("deepseek-v3", lambda: make_config(DeepseekV3Config, **_V3, **_V3_YARN), "deepseek2"),
    Case("deepseek-v2", lambda: make_config(DeepseekV2Config, **_V2), "deepseek2"),
    Case("mixtral", lambda: make_config(MixtralConfig, **_MIXTRAL), "llama"),
    Case("qwen3moe", lambda: make_config(Qwen3MoeConfig, **_QWEN), "qwen3moe"),
)
"""One of each family."""

_WIDE = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2}
_QWEN_WIDE = {"moe_intermediate_size": 256, "head_dim": 64}
_LATENT_WIDE = {
    "moe_intermediate_size": 256,
    "q_lora_rank": 256,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 256,
    "v_head_dim": 64,
}

SPARSE_WIDE = (
    Case("mixtral-wide", lambda: make_config(MixtralConfig, **_MIXTRAL, **_WIDE), "llama"),
    Case("qwen3moe-wide", lambda: make_config(Qwen3MoeConfig, **(_QWEN | _WIDE | _QWEN_WIDE)), "qwen3moe"),
    Case("deepseek-v3-wide", lambda: make_config(DeepseekV3Config, **(_V3 | _WIDE | _LATENT_WIDE)), "deepseek2"),
)
"""Wide enough for every block type of GGUF."""

SPARSE_OPTIONS = (
    Case("deepseek-v3-plain-rope", lambda: make_config(DeepseekV3Config, **_V3), "deepseek2"),
    Case("deepseek-v3-one-group", lambda: make_config(DeepseekV3Config, **(_V3 | {"n_group": 1, "topk_group": 1}))),
    Case("deepseek-v3-raw-weights", lambda: make_config(DeepseekV3Config, **_V3, norm_topk_prob=False)),
    Case("deepseek-v3-halves", lambda: make_config(DeepseekV3Config, **_V3, rope_interleave=False)),
    Case("deepseek-v3-plain-queries", lambda: make_config(DeepseekV3Config, **(_V3 | {"q_lora_rank": None}))),
    Case(
        "deepseek-v2-lite",
        lambda: make_config(DeepseekV2Config, **(_V2 | {"q_lora_rank": None}), **_V2_YARN),
        "deepseek2",
    ),
    Case(
        "deepseek-v2-groups",
        lambda: make_config(DeepseekV2Config, **_V2, n_group=4, topk_group=2, topk_method="group_limited_greedy"),
    ),
    Case("mixtral-window", lambda: make_config(MixtralConfig, **_MIXTRAL, sliding_window=WINDOW)),
    Case("qwen3moe-raw-weights", lambda: make_config(Qwen3MoeConfig, **(_QWEN | {"norm_topk_prob": False}))),
    Case(
        "qwen3moe-some-dense",
        lambda: make_config(Qwen3MoeConfig, **_QWEN, num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3]),
    ),
    Case(
        "qwen3moe-yarn",
        lambda: make_config(
            Qwen3MoeConfig, **_QWEN, **make_scaling("yarn", factor=4.0, original_max_position_embeddings=64)
        ),
        "qwen3moe",
    ),
)
"""What options change."""
