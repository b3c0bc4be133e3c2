"""Reads a checkpoint's settings strictly: typed, and nothing that would change the model is passed over unread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Checkpoint

T = TypeVar("T")
_MISSING = object()

_HARMLESS = frozenset(
    [
        "_name_or_path",
        "architectures",
        "auto_map",
        "bos_token_id",
        "cls_token_id",
        "decoder_start_token_id",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_encoder_decoder",
        "label2id",
        "language",
        "max_window_layers",
        "model_type",
        "n_layer",
        "num_nextn_predict_layers",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "pad_token_id",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "quantization_config",
        "return_dict",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "sep_token_id",
        "task_specific_params",
        "tie_encoder_decoder",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_bfloat16",
        "use_cache",
        "ep_size",
        "aux_loss_alpha",
        "seq_aux",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "add_cross_attention",
        "pruned_heads",
        "tf_legacy_loss",
        "attention_dropout",
        "embd_pdrop",
        "resid_pdrop",
        "cache_implementation",
        "transformers.js_config",
        "is_llama_config",
        "rope_interleaved",
    ]
)
"""Keys of config.json that change nothing of what a model computes for given tokens."""

_HARMLESS_GGUF = frozenset({"vocab_size", "rope.scaling.finetuned"})


def write_decimal(value: float) -> str:
    """Shortest decimal text of an fp32 number: what a manifest holds in a float's place."""
    return str(np.float32(value))


class Stated:
    """The settings of a checkpoint, each read once and of its type; `finish` refuses what nobody read."""

    def __init__(self, checkpoint: Checkpoint, prefix: str = "", defaults: Mapping[str, object] | None = None) -> None:
        """`prefix` is put before every key: GGUF's architecture with a dot, "" for config.json.

        `defaults` are whole keys with what the family takes where a file leaves them out.
        """
        self.values: Mapping[str, object] = {**(defaults or {}), **checkpoint.settings}
        self._prefix = prefix
        self.where = checkpoint.path.name
        self._read: set[str] = set()

    def integer(self, key: str, default: object = _MISSING, least: int = 1, most: int = 1 << 31) -> int:
        """A whole number in [least, most]. Raises ModelFormatError for anything else."""
        value = self._get(key, default)
        if isinstance(value, list) and value and len(set(map(repr, value))) == 1:
            value = value[0]  # GGUF may state one number for each layer
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
            raise ModelFormatError(
                f"{self._prefix}{key} of {self.where} is {value!r:.80}, not a number from {least} to {most}"
            )
        return int(value)

    def decimal(self, key: str, default: object = _MISSING) -> str:
        """A finite positive number as decimal text of its fp32 value."""
        value = self._get(key, default)
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not number or not 0 < float(value) < 3e38:  # type: ignore[arg-type]
            raise ModelFormatError(f"{self._prefix}{key} of {self.where} is {value!r:.80}, not a positive number")
        return write_decimal(float(value))  # type: ignore[arg-type]

    def optional_decimal(self, key: str) -> str:
        """A number as `decimal` reads it, "" where there is none."""
        return "" if self._get(key, None) is None else self.decimal(key)

    def flag(self, key: str, default: object = _MISSING) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool | np.bool_):
            raise ModelFormatError(f"{self._prefix}{key} of {self.where} is {value!r:.80}, not true or false")
        return bool(value)

    def text(self, key: str, default: object = _MISSING) -> str:
        """Text."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise ModelFormatError(f"{self._prefix}{key} of {self.where} is {value!r:.80}, not a text")
        return value

    def mapping(self, key: str) -> Mapping[str, object] | None:
        """An object, None where there is none."""
        value = self._get(key, None)
        if value is not None and not isinstance(value, Mapping):
            raise ModelFormatError(f"{self._prefix}{key} of {self.where} is {value!r:.80}, not an object")
        return value

    def items(self, key: str) -> list[object] | None:
        """A list, None where there is none."""
        value = self._get(key, None)
        if value is not None and not isinstance(value, list | tuple):
            raise ModelFormatError(f"{self._prefix}{key} of {self.where} is {value!r:.80}, not a list")
        return None if value is None else list(value)

    def expect(self, key: str, *wanted: object) -> None:
        """The key is absent, null or one of the values `wanted`, the only ones that are computed."""
        value = self._get(key, None)
        if value is not None and value not in wanted:
            choices = " or ".join(map(repr, wanted)) or "a model without it"
            raise ModelFormatError(f"{self._prefix}{key} of {self.where} is {value!r:.80}: only {choices} can be run")

    def skip(self, *keys: str) -> None:
        """Keys that change nothing for this family."""
        self._read.update(keys)

    def finish(self) -> None:
        """Raises ModelFormatError for a setting that nobody read and that may change the model."""
        for key, value in sorted(self.values.items()):
            if not key.startswith(self._prefix):
                continue
            name = key[len(self._prefix) :]
            harmless = _HARMLESS_GGUF if self._prefix else _HARMLESS
            if name not in self._read and name not in harmless and value not in (None, False, [], {}):
                raise ModelFormatError(f"{key} of {self.where} is an option that is not known here: not supported")

    def _get(self, key: str, default: object) -> object:
        self._read.add(key)
        value = self.values.get(self._prefix + key)
        if value is None:
            if default is _MISSING:
                raise ModelFormatError(f"{self.where} lacks the setting {self._prefix}{key}: convert it again")
            return default
        return value
