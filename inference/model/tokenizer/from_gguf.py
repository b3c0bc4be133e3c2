"""Reads the tokenizer out of a GGUF file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from inference.errors import ModelFormatError
from inference.model.tokenizer.codec import Codec
from inference.model.tokenizer.data import TokenizerData, TokenizerKind, TokenType
from inference.model.tokenizer.end_of_generation import find_end_tokens, is_end_text
from inference.model.tokenizer.pre_tokenizers import LINES, PRE_TOKENIZERS
from inference.model.tokenizer.spelling import SPACE
from inference.model.tokenizer.template import ChatTemplate

_T = TypeVar("_T", str, bool)
_KEY = "tokenizer.ggml."
_KINDS = {"gpt2": TokenizerKind.BYTE_LEVEL, "llama": TokenizerKind.SENTENCEPIECE, "gemma4": TokenizerKind.PIPELINE}
_GEMMA4 = json.dumps(
    {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": LINES}, "behavior": "Isolated", "invert": False},
        "is_byte_level": False,
        "late": [],
        "byte_fallback": True,
        "fuse_unk": False,
        "ignore_merges": False,
    },
    sort_keys=True,
)
_PHI3_KEEPS_SPACE = ("<unk>", "<s>", "<|endoftext|>")


def read_gguf_tokenizer(fields: Mapping[str, object]) -> TokenizerData:
    """The tokenizer that GGUF metadata describes; `fields` maps a key to its value as Python's types.

    Raises ModelFormatError, or TokenizerError, for anything we cannot reproduce exactly.
    """
    model = _read(fields, "model", str)
    if model not in _KINDS:
        raise ModelFormatError(
            f"tokenizer {model!r} is not supported: use a model with a byte-level BPE ('gpt2'), SentencePiece BPE "
            "('llama') or Gemma 4 ('gemma4') vocabulary"
        )
    kind = _KINDS[model]
    tokens = _read_strings(fields, "tokens")
    types = _read_types(fields, len(tokens))
    names = tuple(one or f"[EMPTY_{index}]" for index, one in enumerate(tokens))
    types = tuple(TokenType.UNUSED if not one else kind for one, kind in zip(tokens, types, strict=True))
    # A converter's slip must not let users write the end of a turn: such a token is a control token, as in llama.cpp.
    types = tuple(
        TokenType.CONTROL if one == TokenType.USER_DEFINED and is_end_text(name) else one
        for name, one in zip(names, types, strict=True)
    )
    pre = _read(fields, "pre", str) if kind == TokenizerKind.BYTE_LEVEL else ""
    is_piece = kind == TokenizerKind.SENTENCEPIECE
    strip_right = _find_phi3_strips(fields, names, types)
    bos, eos = (1, 2) if is_piece else (None, None)
    data = TokenizerData(
        tokens=names,
        types=tuple(int(one) for one in types),
        merges=() if is_piece else tuple(dict.fromkeys(_read_strings(fields, "merges"))),
        pre=pre,
        bos_token=_read_id(fields, "bos_token_id", len(names), bos),
        eos_token=_read_id(fields, "eos_token_id", len(names), eos),
        # llama.cpp's defaults where a file says nothing; Gemma 4 wants bos whatever the file says.
        add_bos=kind == TokenizerKind.PIPELINE
        or _read(fields, "add_bos_token", bool, is_piece or (pre in PRE_TOKENIZERS and PRE_TOKENIZERS[pre].adds_bos)),
        add_eos=_read(fields, "add_eos_token", bool, False),
        kind=kind.value,
        ranks=_read_ranks(fields, len(names)) if is_piece else (),
        space_prefix=_read(fields, "add_space_prefix", bool, True) if is_piece else False,
        strip_right=strip_right,
        pipeline=_GEMMA4 if kind == TokenizerKind.PIPELINE else "",
    )
    data.validate()
    Codec(data)
    return data


def read_gguf_end_tokens(fields: Mapping[str, object], data: TokenizerData) -> tuple[int, ...]:
    """Tokens that end a generation: those the file names, and control tokens known by their text. Sorted.

    Raises ModelFormatError when there is none.
    """
    names = ("eos_token_id", "eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id")
    stated = [_read_id(fields, one, len(data.tokens), None) for one in names]
    return find_end_tokens(data, [one for one in [*stated, data.eos_token] if one is not None])


def read_gguf_chat_template(fields: Mapping[str, object]) -> str:
    """The chat template, "" when there is none. Raises ModelFormatError, or TokenizerError when it does not compile."""
    template = fields.get("tokenizer.chat_template", "")
    if not isinstance(template, str):
        raise ModelFormatError("tokenizer.chat_template is no text: convert the file again")
    if template:
        ChatTemplate(template)
    return template


def _read(fields: Mapping[str, object], name: str, kind: type[_T], default: _T | None = None) -> _T:
    value = fields.get(_KEY + name, default)
    if value is None:
        raise ModelFormatError(f"the file lacks the key {_KEY}{name}: convert it again with a current llama.cpp")
    if type(value) is not kind:
        raise ModelFormatError(f"{_KEY}{name} is not of type {kind.__name__}: convert the file again")
    return value


def _read_list(fields: Mapping[str, object], name: str) -> Sequence[object]:
    value = fields.get(_KEY + name)
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise ModelFormatError(f"the file lacks the list {_KEY}{name}: convert it again with a current llama.cpp")
    return value.tolist() if isinstance(value, np.ndarray) else value


def _read_strings(fields: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = _read_list(fields, name)
    if not all(type(one) is str for one in value):
        raise ModelFormatError(f"{_KEY}{name} is no list of texts: convert the file again")
    return tuple(str(one) for one in value)


def _read_types(fields: Mapping[str, object], count: int) -> tuple[int, ...]:
    if _KEY + "token_type" not in fields:
        raise ModelFormatError("the file does not say which tokens are control tokens: convert it again")
    value = _read_list(fields, "token_type")
    numbers = tuple(one for one in value if type(one) is int)
    if len(value) != count or len(numbers) != count:
        raise ModelFormatError(f"{_KEY}token_type does not give {count} numbers: convert the file again")
    return numbers


def _read_id(fields: Mapping[str, object], name: str, count: int, default: int | None) -> int | None:
    value = fields.get(_KEY + name, default)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < count:
        raise ModelFormatError(f"{_KEY}{name} is no token of the vocabulary: convert the file again")
    return value


def _read_ranks(fields: Mapping[str, object], count: int) -> tuple[int, ...]:
    """Scores as ranks: 0 for the best, the same for equals. Only their order matters."""
    scores = np.asarray(_read_list(fields, "scores"))
    if scores.dtype.kind not in "if" or scores.shape != (count,) or not np.isfinite(scores).all():
        raise ModelFormatError(f"{_KEY}scores does not give {count} finite numbers: convert the file again")
    _, ranks = np.unique(-scores.astype(np.float32), return_inverse=True)
    return tuple(int(one) for one in ranks)


def _find_phi3_strips(fields: Mapping[str, object], tokens: Sequence[str], types: Sequence[int]) -> tuple[int, ...]:
    """Phi-3's control tokens swallow white space after them; GGUF does not carry this, llama.cpp knows it by name."""
    name = str(fields.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return ()
    kinds = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    pairs = enumerate(zip(tokens, types, strict=True))
    return tuple(index for index, (one, kind) in pairs if kind in kinds and one not in _PHI3_KEEPS_SPACE)
