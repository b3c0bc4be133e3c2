"""A client orders a grammar that is read in more ways with every token: the others on its last stage wait for each."""

from __future__ import annotations

import random

import pytest

from inference.decoding.grammar import GrammarEngine
from inference.errors import GrammarError
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.sampling import GrammarKind

WORDS = tuple(bytes([97 + one % 4, 97 + one // 4 % 4, 97 + one // 16]) for one in range(64))
EOS = len(WORDS)
AMBIGUOUS = b'start: s\ns: s s | "a" | s s s | "b"\n'
TOKENS_MAX = 35
"""Work for each grows with the square of those before: after so many a step takes some 15 ms, after 70 it was 200."""


def test_an_ambiguous_grammar_is_given_up_before_its_steps_take_long() -> None:
    engine = GrammarEngine(Vocabulary((*WORDS, b""), {EOS: b"<eos>"}), (EOS,), EOS + 1)
    state = engine.compile(GrammarKind.LARK, AMBIGUOUS)
    drawn = random.Random(1)
    given = 0

    def follow() -> None:
        nonlocal given
        for _ in range(TOKENS_MAX):
            state.advance(drawn.choice([one for one in state.get_allowed().tolist() if one != EOS]))
            given += 1

    with pytest.raises(GrammarError, match="Too many items"):
        follow()
    assert given > 5, "shorter texts are read"
