"""All that a tokenizer is made of, as one value and as a TOKENIZER unit. Knows no library and no file format."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from typing import Any

from inference.errors import ModelFormatError

TOKENS_MAX = 1 << 20
MERGES_MAX = 1 << 21
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


class TokenType(IntEnum):
    """What a token is, by GGUF's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class TokenizerKind(StrEnum):
    """How text becomes tokens: which of the optional fields of TokenizerData count."""

    BYTE_LEVEL = "byte-level"
    """BPE over GPT-2's byte alphabet: `merges` by rank, words cut by the pre-tokenizer `pre`."""
    SENTENCEPIECE = "sentencepiece"
    """Pairs merged by the rank of what they make: `ranks`, `space_prefix`; bytes for what is no token."""
    PIPELINE = "pipeline"
    """The normalizer, pre-tokenizer and model options of a tokenizer.json, in `pipeline`, and `merges`."""


@dataclass(frozen=True)
class TokenizerData:
    """A vocabulary in id order, and how text is cut into it. Fields that a kind does not use are empty."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    pre: str
    bos_token: int | None
    eos_token: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    kind: str = TokenizerKind.BYTE_LEVEL
    ranks: tuple[int, ...] = ()
    space_prefix: bool = False
    strip_left: tuple[int, ...] = ()
    strip_right: tuple[int, ...] = ()
    pipeline: str = ""

    def to_bytes(self) -> bytes:
        """The TOKENIZER unit: compact UTF-8 JSON with sorted keys, so equal data gives equal hashes."""
        named = {one.name: getattr(self, one.name) for one in fields(self)}
        return json.dumps(named, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(data: bytes) -> TokenizerData:
        """Parse a TOKENIZER unit. Raises ModelFormatError for anything `to_bytes` does not write."""
        try:
            read = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelFormatError(f"not a tokenizer unit ({error}): fetch the unit again") from error
        names = {one.name for one in fields(TokenizerData)}
        if not isinstance(read, dict) or set(read) != names:
            raise ModelFormatError("not a tokenizer unit (other fields than ours): fetch the unit again")
        values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in read.items()}
        made = TokenizerData(**values)
        made.validate()
        if made.to_bytes() != data:
            raise ModelFormatError("not a tokenizer unit (not in canonical form): fetch the unit again")
        return made

    def validate(self) -> None:
        """Raises ModelFormatError unless types, lengths and ids fit together."""
        self._check_field_types()
        if not 1 <= len(self.tokens) <= TOKENS_MAX or len(self.tokens) != len(self.types):
            raise ModelFormatError(f"a tokenizer has 1 to {TOKENS_MAX} tokens and one type for each: fetch it again")
        if len(self.merges) > MERGES_MAX:
            raise ModelFormatError(f"the tokenizer has {len(self.merges)} merges, at most {MERGES_MAX} are allowed")
        try:
            "".join((*self.tokens, *self.merges, self.pre, self.pipeline)).encode()
        except UnicodeEncodeError as error:
            raise ModelFormatError(
                "a text in the tokenizer is not Unicode (lone surrogates): fetch it again"
            ) from error
        strange = set(self.types) - set(TokenType)
        if strange:
            raise ModelFormatError(f"token types {sorted(strange)} are unknown: convert the model again")
        if len(set(self.tokens)) != len(self.tokens):
            raise ModelFormatError("the vocabulary names a token twice: convert the model again")
        if self.kind not in set(TokenizerKind):
            raise ModelFormatError(f"tokenizers of the kind {self.kind!r} are not supported: use {list(TokenizerKind)}")
        ids = [
            *self.strip_left,
            *self.strip_right,
            *(one for one in (self.bos_token, self.eos_token) if one is not None),
        ]
        if any(not 0 <= one < len(self.tokens) for one in ids):
            raise ModelFormatError(
                "the tokenizer names a special token outside its vocabulary: convert the model again"
            )
        if (self.add_bos and self.bos_token is None) or (self.add_eos and self.eos_token is None):
            raise ModelFormatError("the tokenizer adds a token that it does not name: convert the model again")
        wanted = len(self.tokens) if self.kind == TokenizerKind.SENTENCEPIECE else 0
        if len(self.ranks) != wanted:
            raise ModelFormatError(f"the tokenizer has {len(self.ranks)} ranks, not {wanted}: convert the model again")
        for token, kind in zip(self.tokens, self.types, strict=True):
            if kind == TokenType.BYTE and not _BYTE_TOKEN.fullmatch(token):
                raise ModelFormatError(f"the byte token {token!r} is not of the form <0x41>: convert the model again")

    def _check_field_types(self) -> None:
        wanted: dict[str, type] = {"tokens": str, "merges": str}
        wanted |= {"types": int, "ranks": int, "strip_left": int, "strip_right": int}
        for name, kind in wanted.items():
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(type(one) is kind for one in values):
                raise ModelFormatError(f"not a tokenizer unit ({name} is no list of {kind.__name__}): fetch it again")
        single: dict[str, tuple[Any, ...]] = {"pre": (str,), "kind": (str, TokenizerKind), "pipeline": (str,)}
        single |= dict.fromkeys(("bos_token", "eos_token"), (int, type(None)))
        single |= dict.fromkeys(("add_bos", "add_eos", "space_prefix"), (bool,))
        for name, kinds in single.items():
            if type(getattr(self, name)) not in kinds:
                raise ModelFormatError(f"not a tokenizer unit ({name} has another type): fetch the unit again")
