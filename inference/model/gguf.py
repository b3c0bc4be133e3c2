"""Reads a llama-family GGUF file tensor by tensor. Knows the file format and nothing of storage or graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from numpy.typing import NDArray

from inference.errors import ModelFormatError
from inference.model.layout import TensorSlot
from inference.model.tokenizer.from_gguf import read_gguf_chat_template, read_gguf_end_tokens, read_gguf_tokenizer
from proto_specs.types.manifest import Architecture, UnitKind

FAMILY = "llama"
BLOCK_ROWS = 2048
_LAYER_TENSORS = (
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
)
_MATRIX_OF_SLOT = {"attn_out": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class ModelConfig:
    """The configuration that a checkpoint states."""

    name: str
    architecture: Architecture
    eos_tokens: tuple[int, ...]
    chat_template: str


class GgufModel:
    """An open GGUF file. Tensors are dequantised exactly to fp32 one by one; the file stays mapped, not read whole."""

    def __init__(self, path: Path) -> None:
        """Raises ModelFormatError when the file is truncated, of another architecture, or lacks a tensor."""
        self._path = path
        self._reader = _open_reader(path)
        self._tensors: dict[str, ReaderTensor] = {one.name: one for one in self._reader.tensors}
        fields = self._read_tokenizer_fields()
        self.tokenizer = read_gguf_tokenizer(fields)
        self._template = read_gguf_chat_template(fields)
        self._end_tokens = read_gguf_end_tokens(fields, self.tokenizer)
        self.config = self._read_config()
        self._check_tensors()

    def read_slot(self, kind: UnitKind, index: int, slot: TensorSlot) -> Iterator[Rows]:
        """Yields consecutive pieces of a stored tensor, in stored orientation (layout.py), as contiguous fp32.

        Vocabulary tables come in blocks of BLOCK_ROWS rows; everything else in one piece.
        """
        if kind is UnitKind.LAYER:
            yield self._read_layer_slot(f"blk.{index}.", slot.name)
        elif slot.name == "norm":
            yield self._dequantize("output_norm.weight")
        else:
            name = "token_embd.weight" if slot.name == "embed" else "output.weight"
            for start in range(0, slot.shape[0], BLOCK_ROWS):
                yield self._dequantize(name, slice(start, start + BLOCK_ROWS))

    def _read_layer_slot(self, prefix: str, name: str) -> Rows:
        if name.endswith("_norm"):
            return self._dequantize(f"{prefix}{name}.weight")
        if name == "qkv":
            a = self.config.architecture
            q = _unpermute(self._dequantize(f"{prefix}attn_q.weight"), a.heads, a.head_dim)
            k = _unpermute(self._dequantize(f"{prefix}attn_k.weight"), a.kv_heads, a.head_dim)
            v = self._dequantize(f"{prefix}attn_v.weight")
            return np.ascontiguousarray(np.concatenate([q, k, v]).T)
        return np.ascontiguousarray(self._dequantize(f"{prefix}{_MATRIX_OF_SLOT[name]}.weight").T)

    def _dequantize(self, name: str, rows: slice = slice(None)) -> Rows:
        """fp32 [out, in] (or [n] for norms). Follows the format's own definition, rounded once."""
        tensor = self._tensors[name]
        values = np.ascontiguousarray(dequantize(tensor.data[rows], tensor.tensor_type), dtype=np.float32)
        if not np.isfinite(values).all():
            raise ModelFormatError(f"{name} in {self._path.name} holds NaN or infinity: the file is damaged")
        return values

    def _field(self, key: str, default: Any = None) -> Any:
        field = self._reader.fields.get(key)
        if field is not None:
            return field.contents()
        if default is None:
            raise ModelFormatError(f"{self._path.name} lacks the key {key}: convert it again with a current llama.cpp")
        return default

    def _read_config(self) -> ModelConfig:
        family = self._field("general.architecture")
        if family != FAMILY:
            raise ModelFormatError(f"architecture {family!r} is not supported: use a GGUF of the {FAMILY!r} family")
        if self._field(f"{family}.expert_count", 0) or self._field(f"{family}.attention.sliding_window", 0):
            raise ModelFormatError("experts and sliding windows are not supported: use a dense, full-attention model")
        scaling = self._field(f"{family}.rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs.weight" in self._tensors:
            raise ModelFormatError(f"scaled rotary embedding ({scaling}) is not supported: use the unscaled model")
        heads, hidden = self._field(f"{family}.attention.head_count"), self._field(f"{family}.embedding_length")
        head_dim = self._field(f"{family}.attention.key_length", hidden // heads)
        rotary = self._field(f"{family}.rope.dimension_count", head_dim)
        if rotary != head_dim or self._field(f"{family}.attention.value_length", head_dim) != head_dim:
            raise ModelFormatError(
                "partial rotary dimensions or unequal key and value widths are not supported: use a plain llama"
            )
        architecture = Architecture(
            family=family,
            layers=self._field(f"{family}.block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=self._field(f"{family}.attention.head_count_kv", heads),
            head_dim=head_dim,
            ffn=self._field(f"{family}.feed_forward_length"),
            vocab=len(self.tokenizer.tokens),
            context_max=self._field(f"{family}.context_length"),
            rope_theta=_decimal(self._field(f"{family}.rope.freq_base", 10_000.0)),
            norm_epsilon=_decimal(self._field(f"{family}.attention.layer_norm_rms_epsilon")),
            tied_embeddings="output.weight" not in self._tensors,
        )
        template = self._template
        name = str(self._field("general.name", self._path.stem))
        return ModelConfig(name, architecture, self._end_tokens, template)

    def _read_tokenizer_fields(self) -> dict[str, object]:
        try:
            return {
                key: field.contents()
                for key, field in self._reader.fields.items()
                if key.startswith(("tokenizer.", "general.name"))
            }
        except UnicodeDecodeError as error:
            raise ModelFormatError(f"{self._path.name} names a token that is not UTF-8: convert it again") from error

    def _check_tensors(self) -> None:
        """Requires every needed tensor with its shape, and no tensor that the import would silently leave out."""
        a = self.config.architecture
        attention, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
        layer_shapes = {
            "attn_q": (attention, a.hidden),
            "attn_k": (kv, a.hidden),
            "attn_v": (kv, a.hidden),
            "attn_output": (a.hidden, attention),
            "ffn_gate": (a.ffn, a.hidden),
            "ffn_up": (a.ffn, a.hidden),
            "ffn_down": (a.hidden, a.ffn),
        }
        wanted: dict[str, tuple[int, ...]] = {"token_embd.weight": (a.vocab, a.hidden)}
        wanted["output_norm.weight"] = (a.hidden,)
        if not a.tied_embeddings:
            wanted["output.weight"] = (a.vocab, a.hidden)
        for layer in range(a.layers):
            for name in _LAYER_TENSORS:
                wanted[f"blk.{layer}.{name}.weight"] = layer_shapes.get(name, (a.hidden,))
        for name, shape in wanted.items():
            tensor = self._tensors.get(name)
            if tensor is None:
                raise ModelFormatError(f"{self._path.name} lacks the tensor {name}: it is incomplete, fetch it again")
            found = tuple(int(one) for one in reversed(tensor.shape))
            if found != shape:
                raise ModelFormatError(f"{name} has shape {found}, expected {shape}: not a plain llama model")
        extra = sorted(set(self._tensors) - set(wanted))
        if extra:
            raise ModelFormatError(f"{self._path.name} holds tensors we do not know, such as {extra[0]}: not supported")


def _open_reader(path: Path) -> GGUFReader:
    try:
        return GGUFReader(path)
    except FileNotFoundError as error:
        raise ModelFormatError(f"no file {path}: check the path") from error
    except (ValueError, KeyError, IndexError, OverflowError, OSError, MemoryError) as error:
        raise ModelFormatError(f"{path.name} is not a whole GGUF file ({error}): fetch it again") from error


def _unpermute(weight: Rows, heads: int, head_dim: int) -> Rows:
    """Undo the row order GGUF gives Q and K (pairs interleaved) back to rotate-half order."""
    pairs = weight.reshape(heads, head_dim // 2, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def _decimal(value: float) -> str:
    """Shortest decimal text of a float32. The manifest hashes this text instead of a float."""
    return str(np.float32(value))
