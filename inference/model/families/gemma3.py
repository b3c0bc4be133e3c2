"""Gemma 3, text: norms before and after each part, of heads too; layers with a window turn by a base of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from inference.errors import ModelFormatError
from inference.model.checkpoint.rope_settings import FULL_ATTENTION, SLIDING_ATTENTION, read_rope
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder, Family, Ref
from inference.model.families.heads import attend_normed, list_head_norms
from inference.model.families.plain import LAYERS_MAX, read_plain_gguf, read_plain_hf
from inference.model.families.reading import Stated, write_decimal
from inference.model.families.rope import Rotary, make_rotary
from inference.model.families.windows import WindowedDecoder, make_windows, read_layer_types
from inference.model.forms import Role
from inference.model.graph.kit import GraphKit, Residual
from inference.model.layout import Part
from proto_specs.types.manifest import UnitKind

_PATTERN = 6
"""One layer in so many sees all positions where a file does not say which."""
_LAYERS_27B = 62
"""GGUF does not state the queries' scale; llama.cpp tells the one model that has another by its layers."""
_DEFAULTS: Mapping[str, object] = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131_072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
    "rope_theta": 1_000_000.0,
}
"""What transformers takes for keys that published configs, the multimodal ones above all, leave out."""
_THETA, _THETA_LOCAL = 1_000_000.0, 10_000.0
_IMAGE_KEYS = (
    "vision_config",
    "boi_token_index",
    "eoi_token_index",
    "image_token_index",
    "image_token_id",
    "mm_tokens_per_image",
)
_IMAGE_TENSORS = ("vision_tower.", "multi_modal_projector.")
_GGUF_NAMES = {
    "post_attn_norm": "post_attention_norm.weight",
    "post_ffn_norm": "post_ffw_norm.weight",
}
_HF_NAMES = {
    "ffn_norm": "pre_feedforward_layernorm.weight",
    "post_attn_norm": "post_attention_layernorm.weight",
    "post_ffn_norm": "post_feedforward_layernorm.weight",
}


@dataclass(frozen=True)
class GemmaDecoder(WindowedDecoder):
    """`query_scale` is the number whose root divides queries; `logit_cap` bounds logits by a tanh, "" for not."""

    rope_theta_local: str = "10000.0"
    query_scale: str = "256.0"
    logit_cap: str = ""


class Gemma3(Family):
    """Gemma 3 from 270M to 27B; of multimodal files the language model."""

    name = "gemma3"
    gguf_kinds = ("gemma3",)
    hf_kinds = ("gemma3_text", "gemma3")
    decoder = GemmaDecoder

    def read_gguf(self, checkpoint: Checkpoint) -> GemmaDecoder:
        """As `Family.read_gguf`."""
        stated = Stated(checkpoint, "gemma3.", {"gemma3.rope.freq_base": _THETA})
        layers = stated.integer("block_count", most=LAYERS_MAX)
        hidden, heads = stated.integer("embedding_length"), stated.integer("attention.head_count")
        head_dim = stated.integer("attention.key_length", hidden // heads)
        window = stated.integer("attention.sliding_window", 0, least=0)
        pattern = stated.integer("attention.sliding_window_pattern", _PATTERN)
        decoder = read_plain_gguf(
            checkpoint,
            stated,
            GemmaDecoder,
            rope_theta_local=stated.decimal("rope.freq_base_swa", _THETA_LOCAL),
            query_scale=write_decimal(hidden // heads if layers == _LAYERS_27B else head_dim),
            logit_cap=stated.optional_decimal("final_logit_softcapping"),
            **make_windows(window, _list_windowed(layers, pattern)),
        )
        stated.finish()
        return decoder

    def read_hf(self, checkpoint: Checkpoint) -> GemmaDecoder:
        """As `Family.read_hf`."""
        stated = Stated(checkpoint, defaults=_DEFAULTS)
        for key in ("attention_bias", "use_bidirectional_attention"):
            stated.expect(key, False)
        stated.expect("hidden_activation", "gelu_pytorch_tanh")
        stated.expect("attn_logit_softcapping")
        stated.skip(*_IMAGE_KEYS, "_sliding_window_pattern")
        layers = stated.integer("num_hidden_layers", most=LAYERS_MAX)
        pattern = stated.integer("sliding_window_pattern", _PATTERN)
        windowed = read_layer_types(stated, layers, _list_windowed(layers, pattern))
        decoder = read_plain_hf(
            checkpoint,
            stated,
            GemmaDecoder,
            activation=("gelu_pytorch_tanh",),
            rope_theta_local=_read_local_theta(stated),
            query_scale=stated.decimal("query_pre_attn_scalar"),
            logit_cap=stated.optional_decimal("final_logit_softcapping"),
            **make_windows(stated.integer("sliding_window"), windowed),
        )
        stated.finish()
        return decoder

    def list_layer_parts(self, decoder: Decoder, layer: int) -> tuple[Part, ...]:
        """The plain parts, norms of heads, and norms of what is added to the residual stream."""
        norms = [Part(name, Role.VECTOR, (decoder.hidden,)) for name in ("post_attn_norm", "post_ffn_norm")]
        return (*super().list_layer_parts(decoder, layer), *list_head_norms(decoder), *norms)

    def find_gguf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """As `Family.find_gguf`."""
        if part in _GGUF_NAMES:
            return Ref.of(f"blk.{layer}.{_GGUF_NAMES[part]}")
        return super().find_gguf(decoder, part, kind, layer)

    def find_hf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """As `Family.find_hf`. transformers keeps a norm's weight - 1."""
        shift = 1.0 if part.endswith("norm") else 0.0
        if kind is UnitKind.LAYER and part in _HF_NAMES:
            return Ref.of(f"model.layers.{layer}.{_HF_NAMES[part]}", shift=shift)
        return Ref(super().find_hf(decoder, part, kind, layer).names, shift=shift)

    def list_ignored(self, decoder: Decoder, checkpoint: Checkpoint) -> frozenset[str]:
        """What a multimodal file has for images."""
        images = {one for one in checkpoint.names() if one.removeprefix("model.").startswith(_IMAGE_TENSORS)}
        return super().list_ignored(decoder, checkpoint) | images

    def make_rotaries(self, decoder: Decoder) -> Mapping[str, Rotary]:
        """Layers with a window turn by a base of their own, unscaled."""
        assert isinstance(decoder, GemmaDecoder)
        local = make_rotary(float(decoder.rope_theta_local), decoder.head_dim, None)
        return {**super().make_rotaries(decoder), "local": local}

    def get_embedding_scale(self, decoder: Decoder) -> float:
        """The root of the width, rounded to fp32 as a model in fp32 has it."""
        return math.sqrt(decoder.hidden)

    def build_layer(self, kit: GraphKit, decoder: Decoder, layer: int, residual: Residual) -> Residual:
        """As `Family.build_layer`; what is added to the residual stream is normed too."""
        normed, residual = kit.add_norm(residual, "attn_norm")
        residual = residual.plus(kit.norm(self.build_attention(kit, decoder, layer, normed), "post_attn_norm"))
        normed, residual = kit.add_norm(residual, "ffn_norm")
        return residual.plus(kit.norm(self.build_ffn(kit, decoder, layer, normed), "post_ffn_norm"))

    def build_attention(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """As `Family.build_attention`, with normed heads."""
        assert isinstance(decoder, GemmaDecoder)
        rope = "local" if decoder.get_window(layer) else "rope"
        attended = attend_normed(kit, decoder, layer, normed, rope=rope, scale=float(decoder.query_scale) ** -0.5)
        return kit.linear(attended, "attn_out")

    def build_ffn(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """As `Family.build_ffn`, gated by GELU."""
        gate, up = kit.split(kit.linear(normed, "gate", "up"), decoder.ffn, decoder.ffn)
        return kit.linear(kit.multiply(kit.gelu_tanh(gate), up), "down")

    def build_logits(self, kit: GraphKit, decoder: Decoder, logits: str) -> str:
        """Bounded where the model says so."""
        assert isinstance(decoder, GemmaDecoder)
        if not decoder.logit_cap:
            return logits
        cap = float(decoder.logit_cap)
        return kit.scale(kit.node("Tanh", [kit.scale(logits, 1 / cap)]), cap)


def _list_windowed(layers: int, pattern: int) -> list[int]:
    return [one for one in range(layers) if (one + 1) % pattern]


def _read_local_theta(stated: Stated) -> str:
    nested = stated.mapping("rope_parameters")
    if nested is not None and not {FULL_ATTENTION, SLIDING_ATTENTION} <= nested.keys():
        raise ModelFormatError(f"rope_parameters of {stated.where} lacks a kind of layer: save the model again")
    local = float(stated.decimal("rope_local_base_freq", _THETA_LOCAL))
    rope = read_rope({**stated.values, "rope_theta": local, "rope_local_base_freq": local}, SLIDING_ATTENTION)
    if rope.scaling is not None or rope.rotary_share != 1:
        raise ModelFormatError(f"{stated.where} scales the rotary embedding of sliding layers: not supported")
    return write_decimal(rope.theta)


FAMILY = Gemma3()
