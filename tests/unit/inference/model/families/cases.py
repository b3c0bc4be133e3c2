"""The tiny models of the dense families, plain and with each option that changes what they compute."""

from __future__ import annotations

from typing import Any

from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from tests.unit.inference.model.families.reference import CONTEXT, HIDDEN, VOCAB, Case

WINDOW = 8


def make_config(kind: type[PreTrainedConfig], **more: Any) -> PreTrainedConfig:
    """A tiny configuration of a kind, with `more` in it."""
    settings: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }
    return kind(**settings)


def make_scaling(kind: str, **numbers: float) -> dict[str, Any]:
    """The setting of a scaled rotary embedding."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10_000.0, **numbers}}


_LLAMA3 = make_scaling(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
_LLAMA32 = make_scaling(
    "llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
)
_YARN = make_scaling("yarn", factor=4.0, original_max_position_embeddings=64)
_GEMMA: dict[str, Any] = {
    "num_hidden_layers": 7,
    "head_dim": 32,
    "sliding_window": WINDOW,
    "query_pre_attn_scalar": 32,
    "tie_word_embeddings": True,
}
_GEMMA_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
}

MAIN = (
    Case("llama", lambda: make_config(LlamaConfig), "llama"),
    Case("mistral", lambda: make_config(MistralConfig, sliding_window=WINDOW)),
    Case("qwen2", lambda: make_config(Qwen2Config), "qwen2"),
    Case("qwen3", lambda: make_config(Qwen3Config, head_dim=32), "qwen3"),
    Case("gemma3", lambda: make_config(Gemma3TextConfig, **_GEMMA), "gemma3", norm_shift=1.0),
    Case("smollm3", lambda: make_config(SmolLM3Config, num_hidden_layers=5), "smollm3"),
)
"""One of each family."""

OPTIONS = (
    Case("llama-tied", lambda: make_config(LlamaConfig, tie_word_embeddings=True, rms_norm_eps=1e-3), "llama"),
    Case("llama-wide-heads", lambda: make_config(LlamaConfig, head_dim=32), "llama"),
    Case("llama-llama3", lambda: make_config(LlamaConfig, **_LLAMA3)),
    Case("llama-llama3-published", lambda: make_config(LlamaConfig, **_LLAMA32), "llama"),
    Case("llama-linear", lambda: make_config(LlamaConfig, **make_scaling("linear", factor=4.0)), "llama"),
    Case("mistral-no-window", lambda: make_config(MistralConfig, sliding_window=None), "llama"),
    Case("qwen2-yarn", lambda: make_config(Qwen2Config, **_YARN), "qwen2"),
    Case(
        "qwen2-windows",
        lambda: make_config(Qwen2Config, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
    ),
    Case("qwen3-yarn", lambda: make_config(Qwen3Config, head_dim=16, **_YARN), "qwen3"),
    Case(
        "qwen3-windows",
        lambda: make_config(
            Qwen3Config,
            head_dim=32,
            use_sliding_window=True,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    ),
    Case(
        "smollm3-windows",
        lambda: make_config(
            SmolLM3Config,
            no_rope_layers=[0, 1, 1],
            use_sliding_window=True,
            sliding_window=WINDOW,
            tie_word_embeddings=True,
        ),
    ),
    Case(
        "gemma3-scaled",
        lambda: make_config(
            Gemma3TextConfig, **(_GEMMA | {"query_pre_attn_scalar": 24, "rope_parameters": _GEMMA_ROPE})
        ),
        norm_shift=1.0,
    ),
    Case(
        "gemma3-capped",
        lambda: make_config(Gemma3TextConfig, **_GEMMA, final_logit_softcapping=5.0),
        "gemma3",
        norm_shift=1.0,
    ),
)
"""What options change."""

_WIDE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2, "head_dim": 64}
WIDE = (
    Case("llama-wide", lambda: make_config(LlamaConfig, **_WIDE), "llama"),
    Case("qwen3-wide", lambda: make_config(Qwen3Config, **_WIDE), "qwen3"),
    Case(
        "gemma3-wide",
        lambda: make_config(Gemma3TextConfig, **(_GEMMA | _WIDE | {"query_pre_attn_scalar": 64})),
        "gemma3",
        norm_shift=1.0,
    ),
)
"""Wide enough for blocks of 256."""
