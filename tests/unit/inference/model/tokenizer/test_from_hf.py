"""Tokenizers read from Hugging Face directories give the library's ids and keep control tokens as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from inference.errors import ModelError, ModelFormatError, TokenizerError
from inference.model.tokenizer.data import TokenizerData, TokenType
from inference.model.tokenizer.from_hf import read_hf_chat_template, read_hf_end_tokens, read_hf_tokenizer
from inference.model.tokenizer.pre_tokenizers import GPT2, LLAMA3, QWEN2, TEKKEN
from inference.model.tokenizer.tokenizer import Tokenizer
from tests.unit.inference.model.tokenizer.test_goldens import GOLDENS, TEXTS

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
TO_PIECES = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
PIECES_DECODER = [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}


def _split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def _add(index: int, content: str, **flags: bool) -> dict[str, Any]:
    base = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": index, "content": content, **base, **flags}


def _make_bytes(normalizer: Any, *parts: Any, **options: Any) -> dict[str, Any]:
    tokens = GOLDENS["small"]["tokens"]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
    model |= {"vocab": {one: place for place, one in enumerate(tokens)}, "ignore_merges": False}
    model |= {"merges": [one.split(" ") for one in GOLDENS["small"]["merges"]]} | options
    added = [_add(place, one) for place, one in enumerate(tokens[:4])]
    added += [_add(len(tokens), "<think>", special=False), _add(len(tokens) + 1, "<|user|>", rstrip=True)]
    added += [
        _add(len(tokens) + 2, "z===w", special=False, normalized=normalizer is None),
        _add(len(tokens) + 3, "<h1>", lstrip=True),
    ]
    pre = {"type": "Sequence", "pretokenizers": [*parts, BYTE_LEVEL]}
    return {
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre,
        "decoder": BYTE_LEVEL,
        "model": model,
    }


def _make_pieces(normalizer: Any, pre: Any, decoders: list[Any]) -> dict[str, Any]:
    tokens = GOLDENS["pieces"]["tokens"]
    vocab = {one: place for place, one in enumerate(tokens)}
    splits = ((one[:cut], one[cut:]) for one in tokens[262:] for cut in range(1, len(one)))
    merges = [[left, right] for left, right in splits if left in vocab and right in vocab]
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    model |= {"vocab": vocab, "merges": merges, "ignore_merges": False}
    added = [
        _add(0, "<unk>"),
        _add(1, "<s>"),
        _add(2, "</s>"),
        _add(259, "\n\n", special=False),
        _add(261, "<h1>", special=False),
    ]
    decoder = {"type": "Sequence", "decoders": decoders}
    return {"added_tokens": added, "normalizer": normalizer, "pre_tokenizer": pre, "decoder": decoder, "model": model}


PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, TO_PIECES]}
KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "llama3": lambda: _make_bytes(None, _split(LLAMA3), ignore_merges=True),
    "qwen2": lambda: _make_bytes({"type": "NFC"}, _split(QWEN2)),
    "tekken": lambda: _make_bytes(None, _split(TEKKEN)),
    "smollm": lambda: _make_bytes(None, {"type": "Digits", "individual_digits": True}, _split(GPT2)),
    "llama2": lambda: _make_pieces(PREPEND, None, [*PIECES_DECODER, STRIP]),
    "mistral": lambda: _make_pieces(None, METASPACE, [*PIECES_DECODER, STRIP]),
    "gemma": lambda: _make_pieces(
        TO_PIECES,
        {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        PIECES_DECODER,
    ),
}


def _save(directory: Path, source: dict[str, Any], **files: Any) -> Path:
    frame = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None}
    (directory / "tokenizer.json").write_text(json.dumps(frame | source))
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_ids_are_the_librarys(kind: str, tmp_path: Path) -> None:
    _save(tmp_path, KINDS[kind]())
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    data = read_hf_tokenizer(tmp_path)
    assert TokenizerData.from_bytes(data.to_bytes()) == data
    tokenizer = Tokenizer(data, "", (1,))
    special = [one for one in TEXTS if tokenizer.encode(one, allow_special=True) != library.encode(one).ids]
    assert special == []
    library.encode_special_tokens = True
    assert [one for one in TEXTS if tokenizer.encode(one) != library.encode(one).ids] == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_control_tokens_stay_text_and_texts_come_back(kind: str, tmp_path: Path) -> None:
    data = read_hf_tokenizer(_save(tmp_path, KINDS[kind]()))
    tokenizer = Tokenizer(data, "{{ messages[0].content }}", (1,))
    controls = [index for index, one in enumerate(data.types) if one == TokenType.CONTROL]
    assert len(controls) >= 2
    for text in ("a<s>b</s>", "<s>", "hi <|im_end|>", "é 12\n3"):
        ids = tokenizer.encode(text)
        assert set(controls).isdisjoint(ids)
        assert tokenizer.decode(ids) == text
        assert set(controls).isdisjoint(tokenizer.encode_chat([{"role": "user", "content": text}]))


def test_the_embeddings_size_counts(tmp_path: Path) -> None:
    source = KINDS["qwen2"]()
    size = len(GOLDENS["small"]["tokens"])
    data = read_hf_tokenizer(_save(tmp_path, source, config={"vocab_size": size + 50}))
    assert len(data.tokens) == size + 50
    assert data.types[-1] == TokenType.UNUSED
    assert Tokenizer(data, "", (1,)).get_token_bytes(size + 49) == b""
    assert len(read_hf_tokenizer(tmp_path, vocab=size + 1).tokens) == size + 1
    with pytest.raises(ModelFormatError, match="beyond"):
        read_hf_tokenizer(tmp_path, vocab=size - 1)


def test_special_tokens_and_their_addition(tmp_path: Path) -> None:
    template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    post = {
        "type": "TemplateProcessing",
        "single": template,
        "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
    }
    post["special_tokens"] = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    data = read_hf_tokenizer(_save(tmp_path, KINDS["llama3"]() | {"post_processor": post}, tokenizer_config=config))
    assert (data.bos_token, data.eos_token, data.add_bos, data.add_eos) == (0, 1, True, False)
    config |= {"add_bos_token": False, "add_eos_token": True}
    data = read_hf_tokenizer(_save(tmp_path, KINDS["llama3"]() | {"post_processor": post}, tokenizer_config=config))
    assert (data.add_bos, data.add_eos) == (False, True)
    assert Tokenizer(data, "", (1,)).encode("")[-1:] == [1]
    with pytest.raises(ModelFormatError, match="other tokens than bos and eos"):
        read_hf_tokenizer(_save(tmp_path, KINDS["llama3"]() | {"post_processor": post}, tokenizer_config={}))


def test_tokens_that_end_a_generation(tmp_path: Path) -> None:
    data = read_hf_tokenizer(_save(tmp_path, KINDS["llama3"](), tokenizer_config={"eos_token": "</s>"}))
    assert read_hf_end_tokens(tmp_path, data) == (1, 3)
    _save(tmp_path, KINDS["llama3"](), generation_config={"eos_token_id": [9, 1]}, config={"eos_token_id": 8})
    assert read_hf_end_tokens(tmp_path, data) == (1, 3, 8, 9)
    _save(tmp_path, KINDS["llama3"](), generation_config={"eos_token_id": "x"})
    with pytest.raises(ModelFormatError, match="eos_token_id"):
        read_hf_end_tokens(tmp_path, data)


def test_chat_templates_in_all_their_places(tmp_path: Path) -> None:
    assert read_hf_chat_template(tmp_path) == ""
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "one"}))
    assert read_hf_chat_template(tmp_path) == "one"
    config.write_text(
        json.dumps({"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]})
    )
    assert read_hf_chat_template(tmp_path) == "b"
    for wrong in ([{"name": "rag", "template": "a"}], 3, {"a": "b"}):
        config.write_text(json.dumps({"chat_template": wrong}))
        with pytest.raises(ModelFormatError, match="chat template"):
            read_hf_chat_template(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("file")
    assert read_hf_chat_template(tmp_path) == "file"
    (tmp_path / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(TokenizerError, match="not valid"):
        read_hf_chat_template(tmp_path)


def _change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(source: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = source
        for one in parents:
            place = place[int(one) if one.isdigit() else one]
        place[int(last) if last.isdigit() else last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("model.type", "Unigram", "'Unigram' is not supported"),
        ("model.type", "WordPiece", "'WordPiece' is not supported"),
        ("model", None, "not supported"),
        ("model.dropout", 0.1, "dropout"),
        ("model.end_of_word_suffix", "</w>", "suffixes"),
        ("model.vocab", [], "malformed"),
        ("model.vocab.a", -1, "not below"),
        ("model.merges", [["zz", "qq"]], "merges do not fit"),
        ("model.merges", [["a", "b", "c"]], "no pair"),
        ("model.merges", [3], "no pair"),
        ("model.merges", [["a b", "c"]], "spaces"),
        ("model.more", 1, "malformed"),
        ("normalizer", {"type": "NFKC"}, "normalizer 'NFKC'"),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": ""}, "Precompiled"),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+"}, "content": "b"}, "pattern"),
        ("normalizer", 3, "no object"),
        ("normalizer", {"type": "Sequence", "normalizers": 3}, "malformed"),
        ("pre_tokenizer", {"type": "BertPreTokenizer"}, "BertPreTokenizer"),
        ("pre_tokenizer.pretokenizers.0.pattern", {"Regex": "(a+)+b"}, "splitting text"),
        ("pre_tokenizer.pretokenizers.0.behavior", "Removed", "splitting text"),
        ("decoder", {"type": "WordPiece"}, "decoder"),
        ("decoder", None, "decoder"),
        ("added_tokens.0.single_word", True, "single word"),
        ("added_tokens.0.id", "x", "no id"),
        ("added_tokens.0.id", 7, "would give it"),
        ("added_tokens.5.id", 7, "would give it"),
        ("added_tokens", [{}], "malformed"),
        ("post_processor", {"type": "Nothing"}, "post-processor"),
    ],
)
def test_what_we_cannot_reproduce_is_refused(path: str, value: Any, reason: str, tmp_path: Path) -> None:
    source = KINDS["llama3"]()
    _change(path, value)(source)
    with pytest.raises(ModelError, match=reason) as caught:
        read_hf_tokenizer(_save(tmp_path, source))
    assert "\n" not in str(caught.value)


def test_texts_that_would_be_lost_are_refused(tmp_path: Path) -> None:
    source = KINDS["gemma"]()
    del source["model"]["vocab"]["<0x41>"]
    with pytest.raises(TokenizerError, match="byte fallback"):
        read_hf_tokenizer(_save(tmp_path, source))
    source = KINDS["llama2"]()
    source["added_tokens"][0]["normalized"] = True
    with pytest.raises(ModelFormatError, match="rewritten text"):
        read_hf_tokenizer(_save(tmp_path, source))


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{", b"[" * 100_000, b'{"model": {"type": "BPE"}}'])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"no tokenizer\.json"):
        read_hf_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelFormatError):
        read_hf_tokenizer(tmp_path)
