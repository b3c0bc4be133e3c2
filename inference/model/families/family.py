"""What a model family is: reading a configuration, naming tensors, building a layer. The plain decoder is the default.

A family is one module of this package with a FAMILY: a subclass of `Family` that says what differs. Everything else,
the import, the layout, the engine, the chain, is told by these methods. docs/adding-a-family.md walks through one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.rope import RopeScaling, Rotary, make_rotary
from inference.model.forms import Role
from inference.model.graph.kit import GraphKit, Residual
from inference.model.layout import Part
from proto_specs.types.manifest import Architecture, Setting, UnitKind

SETTING_MAX = 1 << 24
"""The most that a setting may be: positions, windows, words and the like."""
_MOST = {"heads": 1 << 12, "kv_heads": 1 << 12, "head_dim": 1 << 12, "ffn": 1 << 18}
"""The most of what memory grows with beyond the bytes that a file has: a manifest may be a stranger's."""
_DECIMAL_MIN, _DECIMAL_MAX = 1e-30, 1e30
"""Decimals become fp32."""
_COMPARED_VALUES = 1 << 22
"""Values of each of two tensors that are compared at a time."""


@dataclass(frozen=True)
class Decoder:
    """Shape of a decoder, as one family's graph wants it. Subclasses add settings with defaults.

    Decimals are text, so that a manifest holds no float. `rope_scaling` is a `RopeScaling` as text, "" for none.
    """

    layers: int
    hidden: int
    vocab: int
    context_max: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    rope_theta: str
    norm_epsilon: str
    tied_embeddings: bool
    rope_scaling: str = ""

    def get_window(self, layer: int) -> int:
        """How many of the last positions a layer sees, its own included; 0 for all."""
        return 0


@dataclass(frozen=True)
class Cut:
    """Rows [start, stop) of every `of` rows are one matrix of a part; `transposed`, its rows and columns are swapped.

    The tensor is [matrices, of, K], or, where it `is_flat`, [matrices x of, K].
    """

    start: int
    stop: int
    of: int
    is_flat: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class Ref:
    """Where a checkpoint keeps a part: a tensor's rows, or those of several tensors stacked along a new first axis.

    `interleaved_heads` is not 0 where the rows of each of so many heads alternate between the two halves (GGUF's Q and
    K of some families): they are put back. `shift` is added to every value (norms stored as weight - 1). `cut` says
    which rows of each matrix of experts or heads are the part's. Without these names it is at `otherwise`.
    """

    names: tuple[str, ...]
    interleaved_heads: int = 0
    shift: float = 0.0
    cut: Cut | None = None
    otherwise: Ref | None = None

    @staticmethod
    def of(name: str, interleaved_heads: int = 0, shift: float = 0.0) -> Ref:
        """One tensor as it is."""
        return Ref((name,), interleaved_heads, shift)


@dataclass(frozen=True)
class KvShape:
    """KV memory of a layer for one sequence: keys [heads, positions, key_width], values likewise.

    A `value_width` of 0 says that the values are the keys: one memory for both.
    """

    heads: int
    key_width: int
    value_width: int


class Family:
    """A plain pre-norm decoder: grouped-query attention with rotary embedding, gated SiLU. Subclasses differ."""

    name: ClassVar[str]
    """Its name in manifests."""
    gguf_kinds: ClassVar[tuple[str, ...]] = ()
    """The values of GGUF's general.architecture that it reads."""
    hf_kinds: ClassVar[tuple[str, ...]] = ()
    """The values of config.json's model_type that it reads."""
    decoder: ClassVar[type[Decoder]] = Decoder
    """The class of its settings."""
    most: ClassVar[Mapping[str, int]] = _MOST
    """The most that a setting may be, where that is less than SETTING_MAX."""

    # Reading a configuration

    def is_reader(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is of this family: of one of its kinds."""
        return checkpoint.kind in (self.gguf_kinds if checkpoint.is_gguf else self.hf_kinds)

    def read_gguf(self, checkpoint: Checkpoint) -> Decoder:
        """The decoder that a GGUF file states. Raises ModelFormatError, with the reason, for what cannot be run."""
        raise ModelFormatError(f"{self.name} models are not read from GGUF: give the Hugging Face directory")

    def read_hf(self, checkpoint: Checkpoint) -> Decoder:
        """The decoder that a Hugging Face config states. Raises ModelFormatError as `read_gguf`."""
        raise ModelFormatError(f"{self.name} models are not read from Hugging Face: give the GGUF file")

    # Naming tensors

    def list_parts(self, decoder: Decoder, kind: UnitKind, index: int) -> tuple[Part, ...]:
        """The parts of a weight unit, in stored order; none for units that hold no tensors."""
        if kind is UnitKind.EMBED:
            return (Part("embed", Role.TABLE, (decoder.vocab, decoder.hidden)),)
        if kind is UnitKind.HEAD:
            norm = Part("norm", Role.VECTOR, (decoder.hidden,))
            head = Part("head", Role.TABLE, (decoder.vocab, decoder.hidden))
            return (norm,) if decoder.tied_embeddings else (norm, head)
        return self.list_layer_parts(decoder, index) if kind is UnitKind.LAYER else ()

    def list_layer_parts(self, decoder: Decoder, layer: int) -> tuple[Part, ...]:
        """The parts of a layer."""
        attention, kv = decoder.heads * decoder.head_dim, decoder.kv_heads * decoder.head_dim
        return (
            Part("attn_norm", Role.VECTOR, (decoder.hidden,)),
            Part("q", Role.MATRIX, (attention, decoder.hidden), "qkv"),
            Part("k", Role.MATRIX, (kv, decoder.hidden), "qkv"),
            Part("v", Role.MATRIX, (kv, decoder.hidden), "qkv"),
            Part("attn_out", Role.MATRIX, (decoder.hidden, attention)),
            Part("ffn_norm", Role.VECTOR, (decoder.hidden,)),
            Part("gate", Role.MATRIX, (decoder.ffn, decoder.hidden), "gate_up"),
            Part("up", Role.MATRIX, (decoder.ffn, decoder.hidden), "gate_up"),
            Part("down", Role.MATRIX, (decoder.hidden, decoder.ffn)),
        )

    def find_gguf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Where a GGUF file keeps a part."""
        whole = {"embed": "token_embd", "head": "output", "norm": "output_norm"}
        if kind is not UnitKind.LAYER:
            return Ref.of(f"{whole[part]}.weight")
        return Ref.of(f"blk.{layer}.{GGUF_NAMES[part]}")

    def find_hf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Where a Hugging Face directory keeps a part."""
        whole = {"embed": "model.embed_tokens.weight", "head": "lm_head.weight", "norm": "model.norm.weight"}
        if kind is not UnitKind.LAYER:
            return Ref.of(whole[part])
        return Ref.of(f"model.layers.{layer}.{HF_NAMES[part]}")

    def list_ignored(self, decoder: Decoder, checkpoint: Checkpoint) -> frozenset[str]:
        """Tensors of a checkpoint that hold nothing the parts lack: rotary tables, a head that repeats the embedding.

        Raises ModelFormatError when such a tensor says otherwise than the settings.
        """
        names = checkpoint.names()
        ignored = {one for one in names if one.endswith(".rotary_emb.inv_freq")}
        find = self.find_gguf if checkpoint.is_gguf else self.find_hf
        (head,) = find(decoder, "head", UnitKind.HEAD, 0).names
        if decoder.tied_embeddings and head in names:
            check_equal(checkpoint, head, *find(decoder, "embed", UnitKind.EMBED, 0).names)
            ignored.add(head)
        return frozenset(ignored)

    # Running

    def get_kv_shape(self, decoder: Decoder, layer: int) -> KvShape:
        """The KV memory of a layer."""
        return KvShape(decoder.kv_heads, decoder.head_dim, decoder.head_dim)

    def make_rotaries(self, decoder: Decoder) -> Mapping[str, Rotary]:
        """The rotary embeddings of its layers, by the name their graph gives to `attention`."""
        scaling = RopeScaling.from_text(decoder.rope_scaling)
        return {"rope": make_rotary(float(decoder.rope_theta), decoder.head_dim, scaling)}

    def get_embedding_scale(self, decoder: Decoder) -> float:
        """What looked-up rows of the embedding are multiplied with."""
        return 1.0

    def build_layer(self, kit: GraphKit, decoder: Decoder, layer: int, residual: Residual) -> Residual:
        """Adds a layer's nodes. Takes and gives the residual stream [R, C], R rows of all sequences of the call."""
        normed, residual = kit.add_norm(residual, "attn_norm")
        residual = residual.plus(self.build_attention(kit, decoder, layer, normed))
        normed, residual = kit.add_norm(residual, "ffn_norm")
        return residual.plus(self.build_ffn(kit, decoder, layer, normed))

    def build_attention(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """Attention of a layer over its normed input [R, C]; returns what is added to the residual, [R, C]."""
        packed = kit.linear(normed, "q", "k", "v")  # [R, (heads + 2 kv_heads) head_dim]
        window = decoder.get_window(layer)
        attended = kit.attend(packed, decoder.heads, decoder.kv_heads, decoder.head_dim, window=window)
        return kit.linear(attended, "attn_out")

    def build_ffn(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """Feed-forward part of a layer over its normed input [R, C]; returns what is added to the residual."""
        gate, up = kit.split(kit.linear(normed, "gate", "up"), decoder.ffn, decoder.ffn)
        return kit.linear(kit.multiply(kit.silu(gate), up), "down")

    def build_logits(self, kit: GraphKit, decoder: Decoder, logits: str) -> str:
        """What is done to logits [R, V] after the head."""
        return logits

    # Settings in a manifest

    def write_architecture(self, decoder: Decoder) -> Architecture:
        """The manifest's form of a decoder: settings that are not their defaults, in order of name."""
        core = {"layers", "hidden", "vocab", "context_max"}
        settings = []
        for one in sorted(fields(decoder), key=lambda field: field.name):
            value = getattr(decoder, one.name)
            if one.name not in core and (one.default is dataclasses.MISSING or value != one.default):
                settings.append(Setting(one.name, _write_value(value)))
        shape = {name: getattr(decoder, name) for name in core}
        return Architecture(family=self.name, settings=tuple(settings), **shape)

    def read_architecture(self, architecture: Architecture) -> Decoder:
        """The decoder of a manifest. Raises ModelFormatError for settings this family lacks, or that are absurd."""
        stated = {one.name: one.value for one in architecture.settings}
        values: dict[str, object] = {}
        for one in fields(self.decoder):
            if hasattr(architecture, one.name):
                values[one.name] = getattr(architecture, one.name)
            elif one.name in stated:
                values[one.name] = _read_value(one.name, str(one.type), stated.pop(one.name))
            elif one.default is dataclasses.MISSING:
                raise ModelFormatError(f"the manifest lacks {one.name} of family {self.name}: import the model again")
        if stated:
            raise ModelFormatError(f"family {self.name} of this version has no setting {min(stated)}: update it")
        decoder = self.decoder(**values)  # type: ignore[arg-type]
        self.check(decoder)
        return decoder

    def check(self, decoder: Decoder) -> None:
        """Raises ModelFormatError for settings, a file's or a manifest's, that nothing can be built with."""
        for one in fields(decoder):
            value, is_set = getattr(decoder, one.name), one.name.endswith("_layers")
            least = (
                1 if one.name in ("layers", "hidden", "vocab", "context_max", "heads", "kv_heads", "head_dim") else 0
            )
            most = self.most.get(one.name, SETTING_MAX)
            if isinstance(value, int) and (value < least or (value > most and not is_set)):
                raise ModelFormatError(f"{one.name} is {value}, not a number from {least} to {most}: not supported")
            if (
                isinstance(value, str)
                and one.name != "rope_scaling"
                and value != one.default
                and not _is_positive(value)
            ):
                raise ModelFormatError(f"{one.name} is {value!r:.80}, not a positive number: import the model again")
        if decoder.heads % decoder.kv_heads:
            raise ModelFormatError(f"{decoder.heads} heads cannot share {decoder.kv_heads} of keys: not supported")
        try:
            with np.errstate(all="ignore"):
                rotaries = self.make_rotaries(decoder).values()
            is_finite = all(np.isfinite([*one.frequencies, one.factor]).all() for one in rotaries)
        except (ArithmeticError, ValueError):
            is_finite = False
        if not is_finite:
            raise ModelFormatError(
                f"rotary scaling {decoder.rope_scaling!r} cannot be computed: import the model again"
            )


GGUF_NAMES: Mapping[str, str] = {
    "attn_norm": "attn_norm.weight",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "q_bias": "attn_q.bias",
    "k_bias": "attn_k.bias",
    "v_bias": "attn_v.bias",
    "q_norm": "attn_q_norm.weight",
    "k_norm": "attn_k_norm.weight",
    "attn_out": "attn_output.weight",
    "ffn_norm": "ffn_norm.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
}
"""GGUF's names of the parts of a layer, after `blk.N.`."""

HF_NAMES: Mapping[str, str] = {
    "attn_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "attn_out": "self_attn.o_proj.weight",
    "ffn_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
"""Hugging Face's names of the parts of a layer, after `model.layers.N.`."""


def check_equal(checkpoint: Checkpoint, name: str, other: str) -> None:
    """Raises ModelFormatError unless two tensors hold the same values."""
    shape = checkpoint.get_shape(name)
    step = max(1, _COMPARED_VALUES // max(1, shape[-1]))
    is_equal = shape == checkpoint.get_shape(other) and all(
        np.array_equal(checkpoint.read(name, part), checkpoint.read(other, part))
        for part in (slice(start, start + step) for start in range(0, shape[0], step))
    )
    if not is_equal:
        raise ModelFormatError(
            f"{name} of {checkpoint.path.name} differs from {other}, which it is tied to: not supported"
        )


def _is_positive(text: str) -> bool:
    try:
        return _DECIMAL_MIN <= float(text) <= _DECIMAL_MAX
    except ValueError:
        return False


def _write_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _read_value(name: str, kind: str, text: str) -> object:
    try:
        match kind:
            case "int":
                return int(text)
            case "bool":
                return {"true": True, "false": False}[text]
            case "str":
                return text
            case "tuple[int, ...]":
                return tuple(int(one) for one in text.split(",")) if text else ()
    except (ValueError, KeyError) as error:
        raise ModelFormatError(f"setting {name} of the manifest is {text!r}: import the model again") from error
    raise AssertionError(f"settings of type {kind} have no text form")
