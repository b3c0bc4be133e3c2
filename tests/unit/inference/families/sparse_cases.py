"""The tiny models of the families with experts, plain and with each option that changes what they compute."""

from __future__ import annotations

from typing import Any

from transformers import MixtralConfig, Qwen3MoeConfig

from tests.unit.inference.families.cases import WINDOW, make_config, make_scaling
from tests.unit.inference.families.reference import Case

_MIXTRAL: dict[str, Any] = {"num_local_experts": 6, "num_experts_per_tok": 2}
_QWEN: dict[str, Any] = {
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}

SPARSE_MAIN = (
    Case("mixtral", lambda: make_config(MixtralConfig, **_MIXTRAL), "llama"),
    Case("qwen3moe", lambda: make_config(Qwen3MoeConfig, **_QWEN), "qwen3moe"),
)
"""One of each family."""

SPARSE_OPTIONS = (
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
