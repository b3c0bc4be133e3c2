"""Token ids equal llama.cpp's: two real vocabularies, and every pre-tokenizer over a vocabulary that shows its cuts.

tests/fixtures/make_token_goldens.py wrote the fixture and says how.
"""

from __future__ import annotations

import json
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from inference.model.fetch import GEMMA3, SMOLLM2, cache_dir
from inference.model.tokenizer.from_gguf import read_gguf_end_tokens, read_gguf_tokenizer
from inference.model.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from inference.model.tokenizer.tokenizer import Tokenizer

GOLDENS: dict[str, Any] = json.loads((Path(__file__).parents[4] / "fixtures" / "token_goldens.json").read_text())
TEXTS: list[str] = GOLDENS["texts"]


def _load(name: str) -> Tokenizer:
    path = cache_dir() / name
    if not path.is_file():
        pytest.skip(f"{name} is not in the cache directory")
    reader = GGUFReader(path)
    fields = {key: one.contents() for key, one in reader.fields.items() if key.startswith("tokenizer.")}
    data = read_gguf_tokenizer(fields)
    return Tokenizer(data, "", read_gguf_end_tokens(fields, data))


def _make_fields(model: str, pre: str, vocabulary: dict[str, Any]) -> dict[str, object]:
    names = {"tokens": "tokens", "types": "token_type", "merges": "merges", "scores": "scores"}
    fields = {f"tokenizer.ggml.{names[key]}": one for key, one in vocabulary.items() if key in names}
    ids = {"bos_token_id": 0, "eos_token_id": 1} if model == "gpt2" else {}
    return fields | {f"tokenizer.ggml.{key}": one for key, one in ids.items()} | {
        "tokenizer.ggml.model": model, "tokenizer.ggml.pre": pre,
    }  # fmt: skip


def _differ(tokenizer: Tokenizer, golden: dict[str, Any]) -> list[str]:
    plain = [text for text, ids in zip(TEXTS, golden["plain"], strict=True) if tokenizer.encode(text) != ids]
    rows = {place: golden["special"].get(str(place), golden["plain"][place]) for place in range(len(TEXTS))}
    return plain + [TEXTS[one] for one, ids in rows.items() if tokenizer.encode(TEXTS[one], allow_special=True) != ids]


def test_there_are_enough_texts() -> None:
    assert len(TEXTS) == len(set(TEXTS)) >= 500


def test_the_sample_model_is_equal() -> None:
    tokenizer = _load(SMOLLM2.file)
    assert _differ(tokenizer, GOLDENS["smollm2"]) == []
    assert all(tokenizer.decode(tokenizer.encode(one)) == one for one in TEXTS)


def test_gemma_is_equal_but_for_a_token_that_its_file_calls_user_defined() -> None:
    """`</s>` is an HTML tag there; llama.cpp takes it for the end of the text in every vocabulary."""
    tokenizer = _load(GEMMA3.file)
    differ = _differ(tokenizer, GOLDENS["gemma3"])
    assert differ
    assert all("</s>" in one for one in differ)
    assert all(tokenizer.decode(tokenizer.encode(one)) == one.replace("\u2581", " ") for one in TEXTS)
    assert not tokenizer.is_eos(tokenizer.encode("</s>")[-1])
    assert tokenizer.is_eos(tokenizer.encode("<end_of_turn>", allow_special=True)[-1])


# llama.cpp rewrites these expressions for its own engine and loses what the predicate names; ours are the models' own.
_REWRITTEN = {
    "tekken": lambda char: unicodedata.category(char)[0] == "M" or (char > "\x7f" and char.isupper()),
    "gpt-4o": lambda char: unicodedata.category(char)[0] == "M" or (char > "\x7f" and char.isupper()),
    "deepseek-coder": lambda char: char == "\u3000",
}


@pytest.mark.parametrize("pre", sorted(GOLDENS["pre"]))
def test_pre_tokenizers_cut_where_llama_cpp_does(pre: str) -> None:
    tokenizer = Tokenizer(read_gguf_tokenizer(_make_fields("gpt2", pre, GOLDENS["small"])), "", (1,))
    rows = zip(TEXTS, GOLDENS["pre"][pre], strict=True)
    differ = [text for text, golden in rows if zlib.crc32(json.dumps(tokenizer.encode(text)).encode()) != golden]
    excused = _REWRITTEN.get(pre, lambda _: False)
    assert [text for text in differ if not any(map(excused, text))] == []
    assert bool(differ) == (pre in _REWRITTEN)
    assert all(tokenizer.decode(tokenizer.encode(one)) == one for one in TEXTS)


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_expressions_cut_as_another_engine_does(pre: str) -> None:
    regex = pytest.importorskip("regex")
    expressions = PRE_TOKENIZERS[pre].expressions
    library = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(one), "isolated") for one in expressions])
    for text in filter(None, TEXTS):
        pieces = [text]
        for one in map(regex.compile, expressions):
            pieces = [part for piece in pieces for part in _cut(one, piece)]
        assert [piece for piece, _ in library.pre_tokenize_str(text)] == pieces


def _cut(expression: Any, text: str) -> list[str]:
    parts, position = [], 0
    for match in expression.finditer(text):
        parts += [text[position : match.start()], match[0]]
        position = match.end()
    return [one for one in [*parts, text[position:]] if one]


def test_pieces_are_merged_as_llama_cpp_does_with_ties_and_a_space_in_front() -> None:
    data = read_gguf_tokenizer(_make_fields("llama", "default", GOLDENS["pieces"]))
    tokenizer = Tokenizer(data, "", (2,))
    assert data.space_prefix
    assert data.add_bos
    assert _differ(tokenizer, GOLDENS["pieces"]) == []
    whole = [one for one in TEXTS if not any(token in one for token in WRITTEN)]
    assert all(tokenizer.decode(tokenizer.encode(one)) == one.replace("\u2581", " ") for one in whole)


# Matched as they are written. A space is put in front of every text beside one, so such texts do not come back.
WRITTEN = ("\n\n", "  ", "<h1>")
PIECES = Tokenizer(read_gguf_tokenizer(_make_fields("llama", "default", GOLDENS["pieces"])), "", (2,))


@given(st.text().filter(lambda text: not any(one in text for one in (*WRITTEN, "\u2581"))))
def test_any_text_comes_back_from_pieces(text: str) -> None:
    ids = PIECES.encode(text)
    assert PIECES.decode(ids) == text
    assert b"".join(map(PIECES.get_token_bytes, ids)) == (f" {text}" if text else "").encode()
