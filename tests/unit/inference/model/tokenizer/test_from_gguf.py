"""Tokenizers read from GGUF metadata: defaults, tokens that end a generation, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference.errors import ModelError, ModelFormatError, TokenizerError
from inference.model.tokenizer.data import TokenizerData, TokenType
from inference.model.tokenizer.from_gguf import read_gguf_chat_template, read_gguf_end_tokens, read_gguf_tokenizer
from inference.model.tokenizer.tokenizer import Tokenizer
from tests.unit.inference import tiny

BYTES = [f"<0x{one:02X}>" for one in range(256)]
PIECES = ["<unk>", "<s>", "</s>", *BYTES, "<|end|>", "  ", "\u2581a", "\u2581", "a", "b", "ab", "\u2581ab", ""]
PIECE_TYPES = [2, 3, 3, *[6] * 256, 3, 4, *[1] * 7]


def _bytes(**changes: Any) -> dict[str, object]:
    fields: dict[str, Any] = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": list(tiny.TOKENS),
        "merges": list(tiny.MERGES),
    }
    fields |= {"token_type": [3] * 3 + [1] * (len(tiny.TOKENS) - 3), "eos_token_id": 2} | changes
    return {f"tokenizer.ggml.{key}": one for key, one in fields.items() if one is not None}


def _pieces(**changes: Any) -> dict[str, object]:
    fields: dict[str, Any] = {"model": "llama", "tokens": PIECES, "token_type": PIECE_TYPES}
    fields |= {"scores": [-float(one) for one in range(len(PIECES))]} | changes
    return {f"tokenizer.ggml.{key}": one for key, one in fields.items() if one is not None}


def test_defaults_are_llama_cpps() -> None:
    plain = read_gguf_tokenizer(_bytes(bos_token_id=1))
    assert (plain.bos_token, plain.eos_token, plain.add_bos, plain.add_eos, plain.space_prefix) == (
        1,
        2,
        False,
        False,
        False,
    )
    assert read_gguf_tokenizer(_bytes(pre="llama-bpe", bos_token_id=1)).add_bos
    assert not read_gguf_tokenizer(_bytes(pre="llama-bpe", bos_token_id=1, add_bos_token=False)).add_bos
    pieces = read_gguf_tokenizer(_pieces())
    assert (pieces.bos_token, pieces.eos_token, pieces.add_bos, pieces.add_eos, pieces.space_prefix) == (
        1,
        2,
        True,
        False,
        True,
    )
    bare = read_gguf_tokenizer(_pieces(add_bos_token=False, add_eos_token=True, add_space_prefix=False))
    assert (bare.add_bos, bare.add_eos, bare.space_prefix) == (False, True, False)
    assert Tokenizer(bare, "", (2,)).encode("a") == [PIECES.index("a"), 2]


def test_a_merge_named_twice_counts_where_it_comes_first() -> None:
    fields = _bytes(merges=[*tiny.MERGES, tiny.MERGES[0]])
    assert read_gguf_tokenizer(fields) == read_gguf_tokenizer(_bytes())


def test_only_the_order_of_scores_is_kept() -> None:
    scores = [0.0] * 259 + [-1e10, -3.5, 7.25, 7.25, -3.5, *[0.5] * 4]
    ranks = read_gguf_tokenizer(_pieces(scores=scores)).ranks
    assert (ranks[261], ranks[262], ranks[264], ranks[0], ranks[260], ranks[259]) == (0, 0, 1, 2, 3, 4)
    assert read_gguf_tokenizer(_pieces(scores=[one * 10 for one in scores])).ranks == ranks


def test_unused_byte_and_unknown_tokens_are_not_found_in_text() -> None:
    tokenizer = Tokenizer(read_gguf_tokenizer(_pieces(add_bos_token=False)), "", (2,))
    for text in ("<0x41>", "<unk>", "[EMPTY_267]", "<s>"):
        assert set(tokenizer.encode(text)) <= {*range(3, 259), PIECES.index("\u2581")}
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.get_token_bytes(3 + 0x41) == b"A"
    assert tokenizer.get_token_bytes(0) == tokenizer.get_token_bytes(1) == tokenizer.get_token_bytes(267) == b""
    assert tokenizer.get_token_bytes(PIECES.index("\u2581ab")) == b" ab"
    assert tokenizer.get_token_bytes(PIECES.index("  ")) == b"  "


def test_the_space_in_front_comes_and_goes() -> None:
    tokenizer = Tokenizer(read_gguf_tokenizer(_pieces(add_bos_token=False)), "", (2,))
    assert tokenizer.encode("ab") == [PIECES.index("\u2581ab")]
    assert tokenizer.decode(tokenizer.encode("ab")) == "ab"
    assert tokenizer.encode("") == []
    assert tokenizer.encode("<s>ab", allow_special=True) == [1, PIECES.index("\u2581ab")]
    stream = tokenizer.stream()
    assert [stream.push(one) for one in (1, PIECES.index("\u2581ab"), PIECES.index("\u2581ab"))] == ["", "ab", " ab"]


def test_tokens_that_end_a_generation() -> None:
    data = read_gguf_tokenizer(_bytes())
    assert read_gguf_end_tokens(_bytes(), data) == (0, 2)
    assert read_gguf_end_tokens(_bytes(eot_token_id=1, eom_token_id=9), data) == (0, 1, 2, 9)
    tokens = ["<|return|>", "<|call|>", "<|end|>", *tiny.TOKENS[3:]]
    harmony = _bytes(tokens=tokens, eos_token_id=0)
    assert read_gguf_end_tokens(harmony, read_gguf_tokenizer(harmony)) == (0, 1)
    tokens = ["<a>", "<b>", "<c>", *tiny.TOKENS[3:]]
    with pytest.raises(ModelFormatError, match="state its eos token"):
        read_gguf_end_tokens(_bytes(eos_token_id=None), read_gguf_tokenizer(_bytes(tokens=tokens, eos_token_id=None)))


def test_the_chat_template_is_compiled_when_it_is_read() -> None:
    assert read_gguf_chat_template({}) == ""
    assert read_gguf_chat_template({"tokenizer.chat_template": "{{ messages }}"}) == "{{ messages }}"
    for wrong in (3, "{% if %}"):
        with pytest.raises(ModelError, match="template"):
            read_gguf_chat_template({"tokenizer.chat_template": wrong})


def test_an_end_of_turn_is_a_control_token_even_where_the_converter_slipped() -> None:
    types = [3, 3, 4, *[1] * (len(tiny.TOKENS) - 3)]
    data = read_gguf_tokenizer(_bytes(token_type=types))
    assert data.types[2] == TokenType.CONTROL
    assert 2 not in Tokenizer(data, "", (2,)).encode("<|im_end|>")


def test_phi3_tokens_swallow_white_space() -> None:
    fields = _pieces(add_bos_token=False, add_space_prefix=False) | {"general.name": "Phi-3 mini"}
    tokenizer = Tokenizer(read_gguf_tokenizer(fields), "", (2,))
    end, a = PIECES.index("<|end|>"), PIECES.index("a")
    assert tokenizer.encode("a<|end|> \n a<s> ", allow_special=True) == [a, end, a, 1, PIECES.index("\u2581")]


def test_longer_tokens_are_found_first_wherever_they_begin() -> None:
    tokens = ["ab", "bcd", "<|im_end|>", *tiny.TOKENS[3:]]
    types = [4, 4, 3, *[1] * (len(tokens) - 3)]
    tokenizer = Tokenizer(read_gguf_tokenizer(_bytes(tokens=tokens, token_type=types)), "", (2,))
    assert tokenizer.encode("abcd") == [tokens.index("a"), 1]
    assert tokenizer.encode("abbcdab") == [0, 1, 0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (_bytes(model="bert"), "'bert' is not supported"),
        (_bytes(model="t5"), "'t5' is not supported"),
        (_bytes(model=None), "lacks the key"),
        (_bytes(model=3), "not of type str"),
        (_bytes(pre=None), "lacks the key"),
        (_bytes(pre="kimi-k2"), "'kimi-k2' is not supported"),
        (_bytes(tokens=None), "lacks the list"),
        (_bytes(tokens=[3] * 4), "no list of texts"),
        (_bytes(tokens=[], token_type=[], eos_token_id=None), "1 to"),
        (_bytes(merges=None), "lacks the list"),
        (_bytes(merges=["zz qq"]), "merges do not fit"),
        (_bytes(merges=["<|im_ end|>"]), "merges do not fit"),
        (_bytes(token_type=None), "control tokens"),
        (_bytes(token_type=[1]), "does not give"),
        (_bytes(token_type=[0] * len(tiny.TOKENS)), r"token types \[0\]"),
        (_bytes(token_type=[6] * len(tiny.TOKENS)), "byte token"),
        (_bytes(token_type=[1.0] * len(tiny.TOKENS)), "does not give"),
        (_bytes(tokens=["a", "a", *tiny.TOKENS[2:]]), "twice"),
        (_bytes(eos_token_id=10_000), "no token of the vocabulary"),
        (_bytes(eos_token_id="2"), "no token of the vocabulary"),
        (_bytes(add_bos_token=True), "does not name"),
        (_bytes(add_bos_token=1), "not of type bool"),
        (_bytes(tokens=[*tiny.TOKENS, "☃"], token_type=[1] * (len(tiny.TOKENS) + 1)), "not byte-level"),
        (_pieces(scores=None), "lacks the list"),
        (_pieces(scores=[0.0]), "finite numbers"),
        (_pieces(scores=[float("nan")] * len(PIECES)), "finite numbers"),
        (_pieces(scores=["x"] * len(PIECES)), "finite numbers"),
        (_pieces(token_type=[2, 3, 3, *[1] * (len(PIECES) - 3)]), "no token for 256 bytes"),
    ],
)
def test_what_we_cannot_reproduce_is_refused_in_one_line(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        read_gguf_tokenizer(fields)
    assert "\n" not in str(caught.value)


UNIT = json.loads(read_gguf_tokenizer(_pieces()).to_bytes())


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": ["a"]}, {"types": []}, {"types": [True] * len(PIECES)}, {"kind": "wordpiece"},
        {"ranks": [1]}, {"bos_token": 10_000}, {"bos_token": "1"}, {"bos_token": None}, {"add_bos": 1}, {"pre": None},
        {"kind": "byte-level"}, {"merges": "ab"}, {"strip_left": [10_000]}, {"space_prefix": None}, {"more": 1},
        {"pipeline": 0}, {"tokens": ["\ud800", *PIECES[1:-1], "[EMPTY_267]"]},
    ],
)  # fmt: skip
def test_units_that_are_not_ours_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelFormatError):
        TokenizerData.from_bytes(json.dumps(UNIT | change, sort_keys=True, separators=(",", ":")).encode())


def test_a_unit_has_one_form() -> None:
    data = read_gguf_tokenizer(_pieces())
    assert TokenizerData.from_bytes(data.to_bytes()) == data
    for other in (json.dumps(UNIT).encode(), data.to_bytes() + b" ", b"\xff", b"[" * 100_000):
        with pytest.raises(ModelFormatError):
            TokenizerData.from_bytes(other)


@pytest.mark.parametrize("pipeline", ["", "[]", "{}", "[" * 100_000])
def test_units_with_a_damaged_pipeline_are_refused(pipeline: str) -> None:
    data = read_gguf_tokenizer(_bytes())
    damaged = TokenizerData(data.tokens, data.types, data.merges, "", None, kind="pipeline", pipeline=pipeline)
    with pytest.raises(TokenizerError, match="pipeline"):
        Tokenizer(damaged, "", (2,))
