"""Decoding rules of the command line: what they become, and that bad ones are refused before anything else is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.cli.errors import SystemRefused
from node.cli.sampling_options import SchemaInvalid, StopInvalid, check_schema, make_rules
from proto_specs.limits import GRAMMAR_BYTES_MAX
from proto_specs.order_rules import OrderInvalid
from proto_specs.types.sampling import SamplingParams, compute_grammar_hash
from tests.unit.node.gateway.fake_inference import make_tokenizer

OFF: dict[str, Any] = {
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 0,
    "stop": None,
    "schema": None,
}


def test_defaults_are_greedy() -> None:
    assert make_rules(**OFF).sampling == SamplingParams(0, 0, 1000, 0)


def test_each_option_is_in_the_order(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    changes = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1}
    changes |= {"presence_penalty": -0.5, "frequency_penalty": 0.25, "seed": 2**64 - 1}
    rules = make_rules(**{**OFF, **changes, "stop": ["END", "é"], "schema": schema})
    found = rules.sampling
    assert (found.temperature_milli, found.top_k, found.top_p_milli, found.min_p_milli) == (700, 5, 900, 50)
    assert (found.repetition_penalty_milli, found.presence_penalty_milli) == (1100, -500)
    assert (found.frequency_penalty_milli, found.seed, found.stop) == (250, 2**64 - 1, (b"END", "é".encode()))
    assert found.grammar is not None
    assert found.grammar.text_hash == compute_grammar_hash(rules.grammar)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"temperature": 101.0}, OrderInvalid),
        ({"top_p": 0.0001}, OrderInvalid),
        ({"repetition_penalty": 0.001}, OrderInvalid),
        ({"stop": ["a", "a"]}, OrderInvalid),
        ({"stop": [""]}, OrderInvalid),
        ({"stop": [str(one) for one in range(100)]}, StopInvalid),
        ({"stop": ["x" * 100_000]}, StopInvalid),
    ],
)
def test_bad_rules_are_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make_rules(**{**OFF, **changes})


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '{"title": "' + "x" * GRAMMAR_BYTES_MAX + '"}'])
def test_a_file_that_is_no_schema_is_named(tmp_path: Path, text: str) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(text)
    with pytest.raises(SchemaInvalid, match="schema"):
        make_rules(**{**OFF, "schema": schema})


def test_a_schema_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemRefused, match=r"missing: .*check the path"):
        make_rules(**{**OFF, "schema": tmp_path / "missing"})


def test_a_schema_that_workers_would_refuse() -> None:
    tokenizer = make_tokenizer()
    with pytest.raises(SchemaInvalid, match="--json-schema: "):
        check_schema(tokenizer, tokenizer.vocab, b'{"type": "frob"}')
