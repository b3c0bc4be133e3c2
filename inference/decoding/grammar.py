"""Which tokens a grammar allows next: the only importer of llguidance.

Two machines have to agree, so everything that the engine is given and asked is fixed: its limits count steps and no
time, the text is not tokenized by it (what a grammar forces is drawn like anything else), and each state is asked for
its tokens once, before one of them is taken. A verifier that replays a history makes the same calls as the worker did.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from inference.decoding.draw import TokenIds
from inference.decoding.grammar_bounds import check_json_schema, check_lark
from inference.errors import GrammarError
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.sampling import GrammarKind

ITEMS_IN_ROW_MAX = 2_000
COMPILE_FUEL = 1_000_000
STEP_FUEL = 200_000
STEP_ITEMS_MAX = 5_000
LEXER_STATES_MAX = 50_000
GRAMMAR_SYMBOLS_MAX = 100_000
"""Normative, as the text of fingerprint.md: what an engine with other limits gives up, another one would draw."""

_NO_FORCING = '\n%llguidance {"no_forcing": true}\n'
_ERROR_CHARS_MAX = 200


class GrammarEngine:
    """The engine over one model's vocabulary. Takes long to make; immutable and thread-safe afterwards."""

    def __init__(self, vocabulary: Vocabulary, eos_tokens: Collection[int], vocab: int) -> None:
        """`vocab`: how many logits the model has, which may be more than tokens have texts."""
        self._eos = np.array(sorted(eos_tokens), np.int64)
        self._vocab = vocab
        self._limits = LLParserLimits(
            max_items_in_row=ITEMS_IN_ROW_MAX,
            initial_lexer_fuel=COMPILE_FUEL,
            step_lexer_fuel=STEP_FUEL,
            step_max_items=STEP_ITEMS_MAX,
            max_lexer_states=LEXER_STATES_MAX,
            max_grammar_size=GRAMMAR_SYMBOLS_MAX,
            precompute_large_lexemes=True,
            verbose_errors=False,
        )
        with _guarding():
            self._tokenizer = LLTokenizer(
                TokenizerWrapper(_Tokens(vocabulary, eos_tokens)), n_vocab=vocab, eos_token=sorted(eos_tokens)
            )

    def compile(self, kind: int, text: bytes) -> GrammarState:
        """The state before the first token. Takes up to seconds: for a thread.

        Raises GrammarError for a text that is malformed, beyond our bounds, or allows no first token.
        """
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            raise GrammarError(f"the grammar is not UTF-8 ({error.reason}): send text") from error
        with _guarding():
            made = _compile_schema(decoded) if kind == GrammarKind.JSON_SCHEMA else _compile_lark(decoded)
            matcher = LLMatcher(self._tokenizer, made, log_level=0, limits=self._limits)
        state = GrammarState(matcher, self._vocab, self._eos)
        state.get_allowed()
        return state


class GrammarState:
    """How far a text has come in a grammar. Not thread-safe."""

    def __init__(self, matcher: LLMatcher, vocab: int, eos: TokenIds) -> None:
        self._matcher = matcher
        self._vocab = vocab
        self._eos = eos
        self._allowed: TokenIds | None = None
        self._refused: str | None = None

    def get_allowed(self) -> TokenIds:
        """The ids that may come next, ascending. Raises GrammarError when the grammar cannot go on."""
        if self._allowed is None:
            self._refuse_if_stuck()
            with _guarding():
                mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            self._refuse_if_stuck()
            allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little")[: self._vocab])
            if np.isin(self._eos, allowed).any():
                allowed = np.union1d(allowed, self._eos)
            if not allowed.size:
                self._refuse("it allows no token")
            self._allowed = allowed
        return self._allowed

    def advance(self, token: int) -> None:
        """Take a token that does not end the generation. One that is not allowed ends what the grammar can say."""
        try:
            allowed = self.get_allowed()
        except GrammarError:
            return  # it is stuck, and `get_allowed` goes on to say so
        self._allowed = None
        place = int(np.searchsorted(allowed, token))
        if place == allowed.size or allowed[place] != token:
            self._refused = f"token {token} is not allowed"
            return
        with _guarding():
            self._matcher.consume_token(token)

    def _refuse_if_stuck(self) -> None:
        if self._refused is not None:
            self._refuse(self._refused)
        if self._matcher.is_error():
            self._refuse(_shorten(self._matcher.get_error()))

    def _refuse(self, why: str) -> None:
        self._refused = why
        raise GrammarError(f"the grammar cannot be followed ({why}): send a simpler one")


class _Tokens:
    """The vocabulary as the engine reads it. Tokens that end a generation are no text to it, whatever their type."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, eos_tokens: Collection[int]) -> None:
        ordered = sorted(eos_tokens)
        self.eos_token_id = ordered[0]
        special = {one: vocabulary.get_bytes(one) or b"<eos %d>" % one for one in ordered} | vocabulary.controls
        self.special_token_ids = sorted(special)
        count = max(len(vocabulary.spelled), ordered[-1] + 1)
        self.tokens = [special.get(one) or vocabulary.get_bytes(one) for one in range(count)]

    def __call__(self, _text: bytes) -> list[int]:
        return []


def _compile_schema(text: str) -> str:
    check_json_schema(text)
    try:
        made = LLMatcher.grammar_from_json_schema(text, defaults={"whitespace_flexible": False})
    except ValueError as error:
        raise GrammarError(f"the JSON schema is malformed ({_shorten(str(error))}): correct it") from error
    schema = json.loads(made)["grammars"][0]["json_schema"]
    return f"start: %json {json.dumps(schema)}{_NO_FORCING}"


def _compile_lark(text: str) -> str:
    check_lark(text)
    return text + _NO_FORCING  # the last word counts


@contextmanager
def _guarding() -> Iterator[None]:
    """The engine's panics, which are no Exception, as refusals."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise GrammarError(f"the grammar is too much for its engine ({_shorten(str(error))}): simplify it") from error


def _shorten(text: str) -> str:
    return " ".join(text.split())[:_ERROR_CHARS_MAX]
