"""The settings that most decoders state, as GGUF and as config.json: what families read before their own."""

from __future__ import annotations

import math
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

_SCALING_KEYS: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "beta_fast", "beta_slow", "original_max_position_embeddings", "mscale", "mscale_all_dim"),
}
_SCALING_DEFAULTS: Mapping[str, float] = {"beta_fast": 32, "beta_slow": 1, "mscale": 0, "mscale_all_dim": 0}
_SCALING_IGNORED = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned"})

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
    context = stated.integer("context_length", most=POSITIONS_MAX)
    scaling = _read_gguf_scaling(checkpoint, stated, context) or scaling
    check_head_dim(checkpoint, head_dim)
    return decoder(
        layers=stated.integer("block_count", most=LAYERS_MAX),
        hidden=hidden,
        vocab=checkpoint.get_shape("token_embd.weight")[0],
        context_max=context,
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


def read_bare_gguf(checkpoint: Checkpoint, prefix: str, decoder: type[D]) -> D:
    """A decoder that is plain and nothing else; `prefix` is GGUF's architecture with a dot."""
    stated = Stated(checkpoint, prefix)
    made = read_plain_gguf(checkpoint, stated, decoder)
    stated.finish()
    return made


def read_plain_hf(
    checkpoint: Checkpoint, stated: Stated, decoder: type[D], activation: tuple[str, ...] = ("silu",), **more: object
) -> D:
    """The same from config.json."""
    hidden, heads = stated.integer("hidden_size"), stated.integer("num_attention_heads")
    head_dim = stated.integer("head_dim", hidden // heads)
    stated.expect("hidden_act", *activation)
    stated.expect("partial_rotary_factor", 1.0, 1)
    stated.skip("rope_theta", "rope_scaling", "rope_parameters")
    rope = read_rope(stated.values)
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
    if kind == "default":
        return None
    if kind not in _SCALING_KEYS:
        raise ModelFormatError(f"rotary scaling {kind!r:.40} of {checkpoint.path.name} is not supported")
    context = checkpoint.settings.get("max_position_embeddings")
    defaults = {**_SCALING_DEFAULTS, "original_max_position_embeddings": context}
    numbers: list[float] = []
    for key in _SCALING_KEYS[str(kind)]:
        value = stated.get(key)
        value = defaults.get(key) if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelFormatError(f"rotary scaling of {checkpoint.path.name} lacks a number {key}")
        numbers.append(float(value))
    scaling = RopeScaling(str(kind), tuple(numbers))
    given = {key: value for key, value in stated.items() if value is not None}
    factor = given.pop("attention_factor", None)
    if factor is not None and not math.isclose(scaling.attention_factor, float(str(factor)), rel_tol=1e-6):
        raise ModelFormatError(
            f"attention_factor {factor!r:.40} of {checkpoint.path.name} is not supported: leave it out"
        )
    if given.pop("truncate", True) is not True:
        raise ModelFormatError(f"rotary scaling of {checkpoint.path.name} with truncate off is not supported")
    unknown = sorted(given.keys() - _SCALING_IGNORED - set(_SCALING_KEYS[str(kind)]))
    if unknown:
        raise ModelFormatError(f"rotary scaling of {checkpoint.path.name} has {unknown[0]!r:.40}: not supported")
    return scaling


def _read_gguf_scaling(checkpoint: Checkpoint, stated: Stated, context: int) -> RopeScaling | None:
    kind = stated.text("rope.scaling.type", "none")
    stated.expect("rope.scaling.attn_factor", 1.0)
    if kind == "none":
        stated.expect("rope.scaling.factor", 0.0, 1.0)
        stated.skip("rope.scaling.original_context_length")
        return None
    if kind not in ("linear", "yarn"):
        raise ModelFormatError(f"rotary scaling {kind!r:.40} of {checkpoint.path.name} is not supported")
    factor = float(stated.decimal("rope.scaling.factor"))
    original = stated.integer("rope.scaling.original_context_length", context)
    if kind == "linear":
        return RopeScaling("linear", (factor,))
    for key in ("yarn_ext_factor", "yarn_attn_factor"):
        stated.expect(f"rope.scaling.{key}", 1.0)
    fast, slow = (
        float(stated.decimal(f"rope.scaling.yarn_beta_{key}", _SCALING_DEFAULTS[f"beta_{key}"]))
        for key in ("fast", "slow")
    )
    return RopeScaling("yarn", (factor, fast, slow, float(original), 0.0, 0.0))


def check_head_dim(checkpoint: Checkpoint, head_dim: int) -> None:
    """Raises ModelFormatError for a head size that the runtime's attention refuses."""
    if head_dim % HEAD_DIM_STEP:
        raise ModelFormatError(
            f"heads of {checkpoint.path.name} are {head_dim} wide: the runtime's attention takes multiples of"
            f" {HEAD_DIM_STEP}"
        )
