"""Reads tokenizer and chat template out of a Hugging Face checkpoint's directory.

The pipeline of tokenizer.json is kept and run by the library it was written for; see pipeline.py for what is accepted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers

from inference.errors import ModelFormatError
from inference.model.tokenizer.codec import Codec
from inference.model.tokenizer.data import TOKENS_MAX, TokenizerData, TokenizerKind, TokenType
from inference.model.tokenizer.end_of_generation import find_end_tokens, is_end_text
from inference.model.tokenizer.pipeline_parts import check_parts
from inference.model.tokenizer.template import ChatTemplate

FILE_BYTES_MAX = 64 << 20
_MODEL_KEYS = {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk"}
_MODEL_KEYS |= {"byte_fallback", "ignore_merges", "vocab", "merges"}
_ADDED_KEYS = {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}


def read_hf_tokenizer(directory: Path, vocab: int | None = None) -> TokenizerData:
    """The tokenizer of a checkpoint, as large as its embedding: `vocab`, else what config.json says.

    Raises ModelFormatError, or TokenizerError, for anything we cannot reproduce exactly.
    """
    source = _read_json(directory, "tokenizer.json")
    if source is None:
        raise ModelFormatError(f"{directory.name} has no tokenizer.json: convert its tokenizer with transformers first")
    config = _read_json(directory, "tokenizer_config.json") or {}
    model, added = _read_model(source), _read_added(source)
    _check_added_ids(model["vocab"], added)
    count = vocab if vocab is not None else _read_vocab(directory, model, added)
    tokens, types = _list_tokens(model, added, count)
    kept = [one for one in added if one["id"] < count]
    check_parts(source.get("normalizer"), source.get("pre_tokenizer"))
    is_byte_level, space_prefix = _read_decoder(source.get("decoder"))
    pipeline = {
        "normalizer": source.get("normalizer"),
        "pre_tokenizer": source.get("pre_tokenizer"),
        "is_byte_level": is_byte_level,
        "late": _find_late(kept, source.get("normalizer")),
        "byte_fallback": bool(model.get("byte_fallback")),
        "fuse_unk": bool(model.get("fuse_unk")),
        "ignore_merges": bool(model.get("ignore_merges")),
    }
    named = _read_json(directory, "special_tokens_map.json") or {}
    bos, eos = (_find_special(tokens, config, named, name) for name in ("bos_token", "eos_token"))
    add_bos, add_eos = _read_additions(source, config, bos, eos)
    data = TokenizerData(
        tokens=tokens,
        types=types,
        merges=_read_merges(model),
        pre="",
        bos_token=bos,
        eos_token=eos,
        add_bos=add_bos,
        add_eos=add_eos,
        kind=TokenizerKind.PIPELINE.value,
        space_prefix=space_prefix,
        strip_left=tuple(one["id"] for one in kept if one["lstrip"]),
        strip_right=tuple(one["id"] for one in kept if one["rstrip"]),
        pipeline=json.dumps(pipeline, ensure_ascii=False, sort_keys=True, separators=(",", ":")),
    )
    data.validate()
    Codec(data)
    return data


def read_hf_end_tokens(directory: Path, data: TokenizerData) -> tuple[int, ...]:
    """Tokens that end a generation: generation_config.json's, config.json's, the tokenizer's own, and those known by
    their text. Sorted. Raises ModelFormatError when there is none."""
    stated = [] if data.eos_token is None else [data.eos_token]
    for name in ("generation_config.json", "config.json"):
        value = (_read_json(directory, name) or {}).get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if any(type(one) is not int or not 0 <= one < len(data.tokens) for one in ids):
            raise ModelFormatError(f"eos_token_id in {name} is no token of the vocabulary: correct it")
        stated += ids
    return find_end_tokens(data, stated)


def read_hf_chat_template(directory: Path) -> str:
    """The chat template: chat_template.jinja, else tokenizer_config.json's, of several the one named "default".

    "" when there is none. Raises ModelFormatError for a malformed one, TokenizerError for one that does not compile.
    """
    template = _find_chat_template(directory)
    if template:
        ChatTemplate(template)
    return template


def _find_chat_template(directory: Path) -> str:
    path = directory / "chat_template.jinja"
    if path.is_file():
        return _read_text(path)
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = (_read_json(directory, name) or {}).get("chat_template")
        if isinstance(found, list):
            named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
            found = named.get("default")
            if found is None:
                raise ModelFormatError(f"{name} has several chat templates and none is named 'default': name one so")
        if found is not None:
            if not isinstance(found, str):
                raise ModelFormatError(f"the chat template in {name} is no text: correct it")
            return found
    return ""


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ModelFormatError(f"{path.name} has more than {FILE_BYTES_MAX} bytes: it is no tokenizer's")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFormatError(f"{path.name} cannot be read as UTF-8 text ({error}): fetch it again") from error


def _read_json(directory: Path, name: str) -> dict[str, Any] | None:
    path = directory / name
    if not path.is_file():
        return None
    try:
        read = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{name} is not JSON ({error}): fetch it again") from error
    if not isinstance(read, dict):
        raise ModelFormatError(f"{name} is no JSON object: fetch it again")
    return read


def _read_model(source: dict[str, Any]) -> dict[str, Any]:
    model = source.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise ModelFormatError(f"tokenizer model {kind!r} is not supported: use a model with a BPE tokenizer")
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list) or set(model) - _MODEL_KEYS:
        raise ModelFormatError("the BPE model in tokenizer.json is malformed: fetch it again")
    if any(model.get(one) for one in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")):
        raise ModelFormatError("BPE with dropout or with prefixes or suffixes of words is not supported")
    if not all(type(one) is int and 0 <= one < TOKENS_MAX for one in vocab.values()):
        raise ModelFormatError(f"a token id in tokenizer.json is not below {TOKENS_MAX}: fetch it again")
    return model


def _read_merges(model: dict[str, Any]) -> tuple[str, ...]:
    merges = []
    for one in model["merges"]:
        pair = one.split(" ") if isinstance(one, str) else one
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ModelFormatError(f"the merge {str(one)[:40]!r} in tokenizer.json is no pair: fetch it again")
        if any(" " in part for part in pair):
            raise ModelFormatError("merges of tokens with spaces in them are not supported")
        merges.append(" ".join(pair))
    return tuple(merges)


def _read_added(source: dict[str, Any]) -> list[dict[str, Any]]:
    added = source.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(one, dict) and set(one) == _ADDED_KEYS for one in added):
        raise ModelFormatError("added_tokens in tokenizer.json is malformed: fetch it again")
    for one in added:
        if type(one["id"]) is not int or not 0 <= one["id"] < TOKENS_MAX or type(one["content"]) is not str:
            raise ModelFormatError("an added token in tokenizer.json has no id or text: fetch it again")
        if one["single_word"] or not one["content"]:
            raise ModelFormatError(f"the added token {one['content']!r} is found as a single word only: not supported")
    return added


def _check_added_ids(vocab: dict[str, int], added: list[dict[str, Any]]) -> None:
    """The library gives ids to added tokens itself, and not those that the file states."""
    highest = -1
    for one in added:
        following = highest + 1 if highest >= len(vocab) else len(vocab)
        expected = vocab.get(one["content"], following)
        if one["id"] != expected:
            raise ModelFormatError(
                f"the added token {one['content']!r} states the id {one['id']}, the tokenizers library would give it "
                f"{expected}: save the tokenizer again"
            )
        highest = max(highest, expected)


def _read_vocab(directory: Path, model: dict[str, Any], added: list[dict[str, Any]]) -> int:
    config = _read_json(directory, "config.json") or {}
    inner = config.get("text_config")
    stated = config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else None)
    if stated is None:
        return 1 + max([*model["vocab"].values(), *(one["id"] for one in added)], default=0)
    if type(stated) is not int or not 1 <= stated <= TOKENS_MAX:
        raise ModelFormatError(f"vocab_size in config.json is no number from 1 to {TOKENS_MAX}: correct it")
    return stated


def _list_tokens(
    model: dict[str, Any], added: list[dict[str, Any]], count: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Texts and types by id. An id without a text is unused; added tokens beyond the embedding are left out."""
    tokens: list[str | None] = [None] * count
    types = [int(TokenType.UNUSED)] * count
    unknown = model.get("unk_token")
    for token, index in model["vocab"].items():
        if index >= count or tokens[index] is not None:
            raise ModelFormatError(f"token {index} is beyond the embedding's {count} or named twice: not supported")
        is_byte = bool(model.get("byte_fallback")) and len(token) == 6 and token.startswith("<0x") and token[5] == ">"
        kind = TokenType.UNKNOWN if token == unknown else TokenType.BYTE if is_byte else TokenType.NORMAL
        tokens[index], types[index] = token, kind
    for one in added:
        if one["id"] < count:
            is_control = one["special"] or is_end_text(one["content"])
            tokens[one["id"]] = one["content"]
            types[one["id"]] = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
    return tuple(f"[UNUSED_{index}]" if one is None else one for index, one in enumerate(tokens)), tuple(
        map(int, types)
    )


def _read_decoder(decoder: object) -> tuple[bool, bool]:
    """Whether tokens are in the byte alphabet, and whether decoding leaves a first space out."""
    parts = decoder.get("decoders") if isinstance(decoder, dict) and decoder.get("type") == "Sequence" else [decoder]
    if not isinstance(parts, list) or not all(isinstance(one, dict) for one in parts):
        raise ModelFormatError("tokenizer.json has no decoder: not supported")
    names = [one.get("type") for one in parts]
    strange = set(names) - {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}
    if strange or ("ByteLevel" in names and len(names) > 1):
        raise ModelFormatError(f"the decoder {names} is not supported: we could not decode it exactly")
    for one in parts:
        wanted = {"Replace": ("content", " "), "Strip": ("start", 1)}.get(str(one.get("type")))
        if wanted is not None and (one.get(wanted[0]) != wanted[1] or one.get("stop", 0) != 0):
            raise ModelFormatError(f"the decoder's {one.get('type')} has options that are not supported")
    has_prefix = any(one.get("type") == "Metaspace" and one.get("prepend_scheme", "always") != "never" for one in parts)
    return "ByteLevel" in names, "Strip" in names or has_prefix


def _find_late(added: list[dict[str, Any]], normalizer: object) -> list[int]:
    """Tokens looked for in normalized text. With a normalizer that would change them this is not supported."""
    late = sorted(one["id"] for one in added if one["normalized"])
    changes = json.dumps(normalizer)
    if late and any(one in changes for one in ("NFC", "Prepend", "Replace")):
        raise ModelFormatError(
            "added tokens that are found in rewritten text are not supported: save the tokenizer again with a current "
            "transformers"
        )
    return late


def _find_special(tokens: tuple[str, ...], config: dict[str, Any], named: dict[str, Any], name: str) -> int | None:
    value = config.get(name, named.get(name))
    text = value.get("content") if isinstance(value, dict) else value
    if text is None:
        return None
    if text not in tokens:
        raise ModelFormatError(f"{name} {text!r} is no token of the vocabulary: correct tokenizer_config.json")
    return tokens.index(text)


def _read_additions(
    source: dict[str, Any], config: dict[str, Any], bos: int | None, eos: int | None
) -> tuple[bool, bool]:
    """Whether encoding adds bos and eos: as tokenizer_config.json says, else as the post-processor does."""
    reduced: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": None,
        "pre_tokenizer": None,
    }
    reduced |= {"decoder": None, "model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}
    try:
        made = tokenizers.Tokenizer.from_str(json.dumps(reduced | {"post_processor": source.get("post_processor")}))
        ids = list(made.encode("").ids)
    except Exception as error:  # the library raises bare Exception
        raise ModelFormatError(
            f"the post-processor in tokenizer.json is malformed ({error}): fetch it again"
        ) from error
    expected: list[list[int | None]] = [[], [bos], [eos], [bos, eos]]
    if ids not in expected:
        raise ModelFormatError(f"the post-processor adds other tokens than bos and eos ({ids[:8]}): not supported")
    found = {"add_bos_token": ids[:1] == [bos] and bool(ids), "add_eos_token": ids[-1:] == [eos] and bool(ids)}
    stated = {name: config[name] for name in found if isinstance(config.get(name), bool)}
    both = {**found, **stated}
    return both["add_bos_token"] and bos is not None, both["add_eos_token"] and eos is not None
