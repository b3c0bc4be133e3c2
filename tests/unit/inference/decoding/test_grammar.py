"""The grammar engine's adapter: the same tokens for whoever replays, bounds before the engine, errors that are ours."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from inference.decoding import grammar as module
from inference.decoding.grammar import GrammarEngine, GrammarState
from inference.decoding.grammar_bounds import (
    LARK_BRACKETS_MAX,
    LARK_LINES_MAX,
    MULTIPLES_MAX,
    SCHEMA_DEPTH_MAX,
    SCHEMA_NODES_MAX,
)
from inference.errors import GrammarError
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.limits import GRAMMAR_BYTES_MAX
from proto_specs.types.sampling import GrammarKind

BYTES = tuple(bytes([one]) for one in range(256))
MERGED = (b'{"', b'":', b"true", b"a", b"", b"12", b"hello", b"he")
SPELLED = (b"", b"", b"", *BYTES, *MERGED)
VOCABULARY = Vocabulary(SPELLED, {0: b"<pad>", 1: b"<eos>", 2: b"<end>"})
EOS = (1, 2)
VOCAB = len(SPELLED) + 5
ENGINE = GrammarEngine(VOCABULARY, EOS, VOCAB)
JSON, LARK = GrammarKind.JSON_SCHEMA, GrammarKind.LARK
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def compile_text(kind: GrammarKind, text: str) -> GrammarState:
    return ENGINE.compile(kind, text.encode())


def spell(allowed: np.ndarray) -> set[bytes]:
    return {SPELLED[one] for one in allowed.tolist() if one < len(SPELLED)}


def write(state: GrammarState, text: bytes) -> GrammarState:
    for one in text:
        state.advance(3 + one)
    return state


def test_a_schema_is_followed_token_by_token_without_free_space() -> None:
    state = compile_text(JSON, json.dumps(SCHEMA))
    assert spell(state.get_allowed()) == {b"{", b'{"'}
    assert spell(write(state, b'{"a"').get_allowed()) == {b":"}
    allowed = spell(write(state, b":").get_allowed())
    assert {b"-", b"0", b"9", b"12"} <= allowed
    assert not {b" ", b"true", b"}"} & allowed
    assert spell(write(state, b"7").get_allowed()) >= {b"}", b"0", b"12"}
    assert write(state, b"}").get_allowed().tolist() == [1, 2]


def test_what_is_forced_is_drawn_like_anything_else() -> None:
    """Every token that goes on is allowed, not the one that a tokenizer would write: the engine has none of ours."""
    for lark in ('start: "hello"', '%llguidance {"no_forcing": false}\nstart: "hello"'):
        assert spell(compile_text(LARK, lark).get_allowed()) == {b"h", b"he", b"hello"}


def test_all_eos_tokens_are_allowed_when_one_is_and_never_as_text() -> None:
    state = compile_text(LARK, 'start: "a"*')
    assert {1, 2} <= set(state.get_allowed().tolist())
    assert write(compile_text(LARK, 'start: "a" <end>'), b"a").get_allowed().tolist() == [1, 2], "by name too"
    spelled = (b"</s>", *BYTES)
    engine = GrammarEngine(Vocabulary(spelled, {}), (0,), len(spelled))  # an eos token that is no control token
    inside = engine.compile(LARK, b'start: "x" /[<\\/s>]+/ "y"')
    inside.advance(1 + ord("x"))
    assert 0 not in inside.get_allowed()


def test_tokens_without_text_and_beyond_the_vocabulary_are_never_allowed() -> None:
    allowed = set(compile_text(LARK, "start: /(.|\\n)*/").get_allowed().tolist())
    assert 0 not in allowed
    assert not allowed & set(range(len(SPELLED), VOCAB))
    assert 3 + 256 + MERGED.index(b"") not in allowed
    assert {3 + ord("a"), 3 + 256 + MERGED.index(b"a")} <= allowed, "tokens of the same bytes"


def test_control_tokens_can_be_named() -> None:
    state = compile_text(LARK, 'start: <pad> "a"')
    assert state.get_allowed().tolist() == [0]
    state.advance(0)
    assert spell(state.get_allowed()) == {b"a"}


@pytest.mark.parametrize("seed", range(5))
def test_a_replay_allows_the_same_tokens(seed: int) -> None:
    """A verifier takes the tokens of the windows before without asking what else was allowed."""
    chance = random.Random(seed)
    text = json.dumps({"type": "array", "items": {"anyOf": [{"type": "string"}, SCHEMA, {"type": "number"}]}})
    worker = compile_text(JSON, text)
    drawn: list[int] = []
    for _ in range(60):
        allowed = worker.get_allowed()
        choices = [one for one in allowed.tolist() if one not in EOS]
        if not choices:
            break
        drawn.append(chance.choice(choices))
        worker.advance(drawn[-1])
        replay = compile_text(JSON, text)
        for one in drawn:
            replay.advance(one)
        assert np.array_equal(replay.get_allowed(), worker.get_allowed())
    assert len(drawn) > 3


def test_a_replay_makes_the_calls_that_a_worker_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's limits count what it did before: it has to do the same."""
    calls: list[str] = []

    class Watched:
        def __init__(self, *given: object, **named: object) -> None:
            self._inner = inner(*given, **named)

        def __getattr__(self, name: str) -> object:
            if name in ("compute_bitmask", "consume_token"):
                calls.append(name)
            return getattr(self._inner, name)

    inner = module.LLMatcher
    monkeypatch.setattr(module, "LLMatcher", Watched)
    worker = compile_text(LARK, 'start: "aaaa"')
    for _ in range(3):
        worker.get_allowed()
        worker.get_allowed()
        worker.advance(3 + ord("a"))
    worker.get_allowed()
    made, calls[:] = calls[:], []
    verifier = write(compile_text(LARK, 'start: "aaaa"'), b"aaa")
    verifier.get_allowed()
    assert calls == made == ["compute_bitmask", "consume_token"] * 3 + ["compute_bitmask"]


def test_a_text_that_cannot_go_on_is_our_error() -> None:
    state = compile_text(LARK, 'start: "ab"')
    state.advance(3 + ord("x"))
    state.advance(3 + ord("a"))
    for _ in range(2):
        with pytest.raises(GrammarError, match="is not allowed"):
            state.get_allowed()


def test_a_grammar_that_grows_beyond_the_engine_s_limits_is_our_error() -> None:
    anything = {"anyOf": [{"type": "object", "properties": {f"p{n}": {"type": "string"}}} for n in range(400)]}
    with pytest.raises(GrammarError, match="cannot be followed"):
        write(compile_text(JSON, json.dumps(anything)), b"{").get_allowed()


CHAIN = "\n".join(f"A{one}: A{one + 1}" for one in range(LARK_LINES_MAX + 1))
DEEP = '{"a":' * SCHEMA_DEPTH_MAX + "{}" + "}" * SCHEMA_DEPTH_MAX
MULTIPLE = '{"type":"integer","multipleOf":%s}'
REFUSED = {
    "nothing": (JSON, ""),
    "no JSON": (JSON, "{"),
    "no object": (JSON, "[]"),
    "true": (JSON, "true"),
    "NaN": (JSON, '{"minimum":NaN}'),
    "a name twice": (JSON, '{"multipleOf":3,"multipleOf":5}'),
    "lone surrogate": (JSON, '{"const":"\\ud800"}'),
    "deep": (JSON, DEEP),
    "deeper than Python goes": (JSON, "[" * 30_000 + "]" * 30_000),
    "large": (JSON, json.dumps({"enum": list(range(SCHEMA_NODES_MAX))})),
    "long": (JSON, json.dumps({"const": "x" * GRAMMAR_BYTES_MAX})),
    "no type": (JSON, '{"type":"nothing"}'),
    "unknown keyword": (JSON, '{"type":"array","uniqueItems":true}'),
    "nothing fits": (JSON, '{"type":"integer","minimum":3,"maximum":2}'),
    "reference to nothing": (JSON, '{"$ref":"#/$defs/x"}'),
    "reference to itself": (JSON, '{"$ref":"#"}'),
    "reference elsewhere": (JSON, '{"$ref":"http://example.com/schema"}'),
    "remainders": (JSON, MULTIPLE % (MULTIPLES_MAX + 1)),
    "remainders of decimals": (JSON, MULTIPLE % "1.23457"),
    "remainders of floats": (JSON, MULTIPLE % "1e300"),
    "product of remainders": (JSON, '{"allOf":[%s,%s]}' % (MULTIPLE % 101, MULTIPLE % 103)),  # noqa: UP031
    "escaped remainders": (JSON, MULTIPLE.replace("multipleOf", "multiple\\u004ff") % 1234567),
    "remainders in a grammar": (LARK, "start: %json  " + MULTIPLE % 1234567),
    "no Lark": (LARK, "start: ("),
    "another format": (LARK, '{"grammars":[{"lark_grammar":"start: \\"a\\""}]}'),
    "broken JSON in Lark": (LARK, 'start: %json {"type":"string"'),
    "no start": (LARK, 'other: "a"'),
    "many brackets": (LARK, "start: " + "(" * (LARK_BRACKETS_MAX + 1) + '"a"' + ")" * (LARK_BRACKETS_MAX + 1)),
    "deep brackets": (LARK, "start: " + "(" * (LARK_BRACKETS_MAX - 1) + '"a"' + ")" * (LARK_BRACKETS_MAX - 1)),
    "a long chain": (LARK, f"start: A0\n{CHAIN}"),
    "too much work": (LARK, "start: A\nA: " + " & ".join(f"/(a{{{n}}})*/" for n in (101, 103, 107)) + " & /a+/"),
    "bad regex": (LARK, "start: /(/"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("kind", "text"), REFUSED.values(), ids=REFUSED)
def test_bad_grammars_are_refused_in_one_line(kind: GrammarKind, text: str) -> None:
    with pytest.raises(GrammarError) as caught:
        compile_text(kind, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(GrammarError, match="UTF-8"):
        ENGINE.compile(JSON, b"\xff")


def test_what_is_at_the_bounds_compiles() -> None:
    for multiple in (MULTIPLES_MAX - 1, MULTIPLES_MAX, "1e4", 0.001, "12.5"):
        compile_text(JSON, (MULTIPLE % multiple).replace("integer", "number"))
    compile_text(JSON, json.dumps({"enum": [f"x{one}" for one in range(SCHEMA_NODES_MAX // 2)]}))
    compile_text(LARK, "start: A0\n" + "\n".join(f"A{n}: A{n + 1}" for n in range(LARK_LINES_MAX - 3)) + '\nA997: "x"')
    compile_text(LARK, "start: %json " + json.dumps(SCHEMA) + ' "\\n"')


def test_a_panic_of_the_engine_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(*_: object, **__: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(module, "LLMatcher", panic)
    with pytest.raises(GrammarError, match="too much for its engine"):
        compile_text(LARK, 'start: "a"')
