"""Choosers of a stored model: what they read of the store and when, and rules that nobody can follow."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from inference.decoding.source import ChooserSource
from inference.errors import DecodingError, GrammarError, StoreError
from inference.model.store import ShardStore, find_unit
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.manifest import UnitKind
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, make_grammar
from tests.unit.inference.conftest import TinyModel

GREEDY = SamplingParams(0, 0, 1000, 0)
TEXT = b'{"enum":["hello"]}'


def test_a_vocabulary_spells_as_the_tokenizer_does(model: TinyModel) -> None:
    tokenizer = Tokenizer.load(model.store, model.model_id)
    vocabulary = Vocabulary.load(model.store, model.model_id)
    assert vocabulary.spelled == tuple(tokenizer.get_token_bytes(one) for one in range(tokenizer.vocab))
    assert vocabulary.controls == {0: b"<|endoftext|>", 1: b"<|im_start|>", 2: b"<|im_end|>"}
    assert vocabulary.get_bytes(-1) == vocabulary.get_bytes(tokenizer.vocab) == b""


def test_a_store_without_the_tokenizer_serves_the_rules_that_do_not_read_it(model: TinyModel, tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    shutil.copytree(model.directory, store.get_directory(model.model_id))
    store.get_unit_path(model.model_id, find_unit(model.manifest, UnitKind.TOKENIZER, 0)).unlink()
    source = ChooserSource(store, model.model_id, model.manifest)
    source.make(replace(GREEDY, repetition_penalty_milli=1100, logit_bias=(TokenBias(1, 5),), logprobs=3), (1, 2))
    for params, grammar in (
        (replace(GREEDY, stop=(b"x",)), b""),
        (replace(GREEDY, grammar=make_grammar(GrammarKind.JSON_SCHEMA, TEXT)), TEXT),
    ):
        with pytest.raises(StoreError, match="need the model's tokenizer"):
            source.make(params, (), grammar)


def test_the_engine_is_made_once(model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ChooserSource(model.store, model.model_id, model.manifest)
    params = replace(GREEDY, grammar=make_grammar(GrammarKind.JSON_SCHEMA, TEXT))
    source.make(params, (), TEXT)
    monkeypatch.setattr("inference.decoding.source.GrammarEngine", None)
    monkeypatch.setattr("inference.decoding.source.Vocabulary", None)
    source.make(params, (), TEXT)


def test_rules_that_nobody_can_follow_are_refused(model: TinyModel) -> None:
    source = ChooserSource(model.store, model.model_id, model.manifest)
    with pytest.raises(GrammarError):
        source.make(replace(GREEDY, grammar=make_grammar(GrammarKind.LARK, b"start")), (), b"start")
    with pytest.raises(DecodingError, match="outside the vocabulary"):
        source.make(GREEDY, (3, model.manifest.architecture.vocab))
