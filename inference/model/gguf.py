"""Reads a llama-family GGUF file tensor by tensor. Knows the file format and nothing of storage or graphs."""

from __future__ import annotations

import json
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
from proto_specs.types.manifest import Architecture, UnitKind

FAMILY = "llama"
BLOCK_ROWS = 2048
_TOKEN_TYPE_CONTROL = 3
_END_OF_GENERATION = frozenset({"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "</s>"})
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
class TokenizerData:
    """All tokenizer data: byte-level BPE vocabulary in id order with types (3 = control), merges by rank."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    pre: str
    bos_token: int | None

    def to_bytes(self) -> bytes:
        """The TOKENIZER unit: compact UTF-8 JSON with sorted keys, so equal data gives equal hashes."""
        fields = {
            "bos_token": self.bos_token,
            "merges": self.merges,
            "pre": self.pre,
            "tokens": self.tokens,
            "types": self.types,
        }
        return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(data: bytes) -> TokenizerData:
        """Parse a TOKENIZER unit. Raises ModelFormatError for anything `to_bytes` does not write."""
        try:
            fields = json.loads(data)
            made = TokenizerData(
                tuple(map(str, fields["tokens"])),
                tuple(map(int, fields["types"])),
                tuple(map(str, fields["merges"])),
                str(fields["pre"]),
                None if fields["bos_token"] is None else int(fields["bos_token"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFormatError(f"not a tokenizer unit ({error}): fetch the unit again") from error
        if not made.tokens or len(made.tokens) != len(made.types):
            raise ModelFormatError("a tokenizer unit names one type for each token: fetch the unit again")
        return made


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
        self.tokenizer = self._read_tokenizer()
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
        template = self._field("tokenizer.chat_template", "") or ""
        name = str(self._field("general.name", self._path.stem))
        return ModelConfig(name, architecture, self._read_eos_tokens(), template)

    def _read_eos_tokens(self) -> tuple[int, ...]:
        found = {int(self._field("tokenizer.ggml.eos_token_id"))}
        for index, (token, kind) in enumerate(zip(self.tokenizer.tokens, self.tokenizer.types, strict=True)):
            if kind == _TOKEN_TYPE_CONTROL and token in _END_OF_GENERATION:
                found.add(index)
        return tuple(sorted(found))

    def _read_tokenizer(self) -> TokenizerData:
        model = self._field("tokenizer.ggml.model")
        if model != "gpt2":
            raise ModelFormatError(f"tokenizer {model!r} is not supported: use a byte-level BPE ('gpt2') model")
        bos = self._field("tokenizer.ggml.bos_token_id", -1)
        wants_bos = self._reader.fields.get("tokenizer.ggml.add_bos_token")
        return TokenizerData(
            tokens=tuple(self._field("tokenizer.ggml.tokens")),
            types=tuple(self._field("tokenizer.ggml.token_type")),
            merges=tuple(self._field("tokenizer.ggml.merges")),
            pre=self._field("tokenizer.ggml.pre"),
            bos_token=bos if wants_bos is not None and wants_bos.contents() and bos >= 0 else None,
        )

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
