"""The settings that most decoders state, as GGUF and as config.json: what families read before their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from inference.errors import ModelFormatError
from inference.model.checkpoint.rope_settings import read_rope
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder
from inference.model.families.reading import Stated, write_decimal
from inference.model.families.rope import RopeScaling

HEAD_DIM_STEP = 16
"""ONNX Runtime's attention with rotary embedding takes head sizes that are multiples of this."""
LAYERS_MAX = 512
POSITIONS_MAX = 1 << 24

D = TypeVar("D", bound=Decoder)


def read_plain_gguf(
    checkpoint: Checkpoint, stated: Stated, decoder: type[D], scaling: RopeScaling | None = None, **more: object
) -> D:
    """A decoder from GGUF metadata: grouped-query attention, rotary embedding over whole heads, a gated FFN.

    `scaling` is what the caller found elsewhere; `more` are the settings of its own class. Raises ModelFormatError.
    """
    hidden, heads = stated.integer("embedding_length"), stated.integer("attention.head_count")
    head_dim = stated.integer("attention.key_length", hidden // heads)
    stated.expect("attention.value_length", head_dim)
    stated.expect("rope.dimension_count", head_dim)
    kind = stated.text("rope.scaling.type", "none")
    if kind == "linear":
        scaling = RopeScaling("linear", (float(stated.decimal("rope.scaling.factor")),))
    elif kind != "none":
        raise ModelFormatError(f"rotary scaling {kind!r} of {checkpoint.path.name} is not supported for this family")
    check_head_dim(checkpoint, head_dim)
    return decoder(
        layers=stated.integer("block_count", most=LAYERS_MAX),
        hidden=hidden,
        vocab=checkpoint.get_shape("token_embd.weight")[0],
        context_max=stated.integer("context_length", most=POSITIONS_MAX),
        heads=heads,
        kv_heads=stated.integer("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=stated.integer("feed_forward_length"),
        rope_theta=stated.decimal("rope.freq_base", 10_000.0),
        norm_epsilon=stated.decimal("attention.layer_norm_rms_epsilon"),
        tied_embeddings="output.weight" not in checkpoint.names(),
        rope_scaling="" if scaling is None else scaling.to_text(),
        **more,
    )


def read_plain_hf(
    checkpoint: Checkpoint, stated: Stated, decoder: type[D], activation: tuple[str, ...] = ("silu",), **more: object
) -> D:
    """The same from config.json."""
    hidden, heads = stated.integer("hidden_size"), stated.integer("num_attention_heads")
    head_dim = stated.integer("head_dim", hidden // heads)
    stated.expect("hidden_act", *activation)
    stated.expect("partial_rotary_factor", 1.0, 1)
    stated.skip("rope_theta", "rope_scaling", "rope_parameters")
    rope = read_rope(checkpoint.settings)
    if rope.rotary_share != 1:
        raise ModelFormatError(f"rotary embedding of a part of each head ({checkpoint.path.name}) is not supported")
    scaling = read_rope_scaling(checkpoint, rope.scaling)
    check_head_dim(checkpoint, head_dim)
    tied = stated.flag("tie_word_embeddings", "lm_head.weight" not in checkpoint.names())
    return decoder(
        layers=stated.integer("num_hidden_layers", most=LAYERS_MAX),
        hidden=hidden,
        vocab=stated.integer("vocab_size"),
        context_max=stated.integer("max_position_embeddings", most=POSITIONS_MAX),
        heads=heads,
        kv_heads=stated.integer("num_key_value_heads", heads),
        head_dim=head_dim,
        ffn=stated.integer("intermediate_size"),
        rope_theta=write_decimal(rope.theta),
        norm_epsilon=stated.decimal("rms_norm_eps", 1e-6),
        tied_embeddings=tied,
        rope_scaling="" if scaling is None else scaling.to_text(),
        **more,
    )


def read_rope_scaling(checkpoint: Checkpoint, stated: Mapping[str, object] | None) -> RopeScaling | None:
    """The scaling of a config's rope settings. Raises ModelFormatError for a kind that is not computed here."""
    if not stated:
        return None
    kind = stated.get("rope_type", stated.get("type", "default"))
    keys = {
        "linear": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
        "yarn": ("factor", "beta_fast", "beta_slow", "original_max_position_embeddings", "mscale", "mscale_all_dim"),
    }
    defaults = {"beta_fast": 32, "beta_slow": 1, "mscale": 0, "mscale_all_dim": 0}
    if kind == "default":
        return None
    if kind not in keys:
        raise ModelFormatError(f"rotary scaling {kind!r:.40} of {checkpoint.path.name} is not supported")
    numbers: list[float] = []
    for key in keys[kind]:
        value = stated.get(key, defaults.get(key))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelFormatError(f"rotary scaling of {checkpoint.path.name} lacks a number {key}")
        numbers.append(float(value))
    return RopeScaling(kind, tuple(numbers))


def check_head_dim(checkpoint: Checkpoint, head_dim: int) -> None:
    """Raises ModelFormatError for a head size that the runtime's attention refuses."""
    if head_dim % HEAD_DIM_STEP:
        raise ModelFormatError(
            f"heads of {checkpoint.path.name} are {head_dim} wide: the runtime's attention takes multiples of"
            f" {HEAD_DIM_STEP}"
        )
