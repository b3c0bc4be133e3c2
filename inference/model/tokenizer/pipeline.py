"""How the pipeline of a tokenizer.json runs: through the `tokenizers` library, the reference for these files."""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from tokenizers import models

from inference.errors import TokenizerError
from inference.model.tokenizer.byte_alphabet import BYTE_OF_CHAR
from inference.model.tokenizer.byte_level import build_bpe
from inference.model.tokenizer.data import TokenizerData, TokenType
from inference.model.tokenizer.pipeline_parts import parse_pipeline


class Pipeline:
    """A checked pipeline over one vocabulary. Immutable after construction and thread-safe."""

    def __init__(self, data: TokenizerData) -> None:
        """Raises TokenizerError, with the reason, for a pipeline that is not on our list."""
        parts = parse_pipeline(data.pipeline)
        self.late = frozenset(parts["late"])
        """Tokens that are looked for after the others."""
        _check_coverage(data, parts["is_byte_level"], parts["byte_fallback"])
        options = {name: parts[name] for name in ("byte_fallback", "fuse_unk", "ignore_merges")}
        model = build_bpe(data, **options)
        first, others = _split_first(parts["pre_tokenizer"])
        self._others = _build(model, parts["normalizer"], others)
        self._first = self._others if first == others else _build(model, parts["normalizer"], first)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that follows a special token."""
        return list(self._others.encode(text, add_special_tokens=False).ids)

    def encode_first(self, text: str) -> list[int]:
        """Token ids of a text at the very beginning."""
        return list(self._first.encode(text, add_special_tokens=False).ids)


def _check_coverage(data: TokenizerData, is_byte_level: bool, byte_fallback: bool) -> None:
    if is_byte_level:
        wanted = {char for char, one in BYTE_OF_CHAR.items() if one not in (0xC0, 0xC1) and one < 0xF5}
        if TokenType.UNKNOWN in data.types and wanted - set(data.tokens):
            raise TokenizerError("the vocabulary lacks bytes: texts could not be encoded without loss")
        return
    if not byte_fallback or not {f"<0x{one:02X}>" for one in range(256)} <= set(data.tokens):
        raise TokenizerError("the vocabulary has no byte fallback: texts could not be encoded without loss")


def _split_first(part: Any) -> tuple[Any, Any]:
    """The pre-tokenizer for the text's beginning and for the rest, where a space is put in front of the first alone."""
    if not isinstance(part, dict):
        return part, part
    if part["type"] == "Sequence":
        halves = [_split_first(one) for one in part["pretokenizers"]]
        return (
            {"type": "Sequence", "pretokenizers": [one for one, _ in halves]},
            {"type": "Sequence", "pretokenizers": [other for _, other in halves]},
        )
    if part["type"] == "Metaspace" and part.get("prepend_scheme") == "first":
        return part, {**part, "prepend_scheme": "never"}
    return part, part


def _build(model: models.BPE, normalizer: object, pre_tokenizer: object) -> tokenizers.Tokenizer:
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    frame = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": normalizer}
    frame |= {"pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": None, "model": empty}
    try:
        made = tokenizers.Tokenizer.from_str(json.dumps(frame))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"the tokenizer's pipeline is malformed ({error}): fetch the model again") from error
    made.model = model
    return made
