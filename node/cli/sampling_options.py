"""The decoding rules as options of a command, checked in full before anything is paid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from inference.errors import GrammarError
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.errors import CliError, explain_system_error
from proto_specs.limits import GRAMMAR_BYTES_MAX, STOP_BYTES_MAX, STOPS_MAX
from proto_specs.order_rules import validate_sampling
from proto_specs.types.sampling import GrammarKind, SamplingParams, make_grammar

SEED_MAX = 2**64 - 1
TOP_K_MAX = 2**32 - 1

TemperatureOption = Annotated[float, typer.Option(min=0.0, max=100.0, help="0 is greedy.")]
TopKOption = Annotated[int, typer.Option(min=0, max=TOP_K_MAX, help="Draw from the k likeliest; 0 is all.")]
TopPOption = Annotated[float, typer.Option(min=0.001, max=1.0, help="Draw from this share of likelihood.")]
MinPOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Leave out what is less likely than this x the best.")
]
RepetitionOption = Annotated[float, typer.Option(min=0.01, max=10.0, help="Divides logits of tokens seen; 1 is off.")]
PresenceOption = Annotated[float, typer.Option(min=-10.0, max=10.0, help="Taken from logits of tokens generated.")]
FrequencyOption = Annotated[float, typer.Option(min=-10.0, max=10.0, help="The same, for each time.")]
SeedOption = Annotated[
    int, typer.Option(min=0, max=SEED_MAX, help="Seed of the draw, so that it can be derived again.")
]
StopOption = Annotated[list[str] | None, typer.Option(help="Text that ends the answer; may be given several times.")]
SchemaOption = Annotated[Path | None, typer.Option(help="File with a JSON schema that the answer has to fit.")]


class SchemaInvalid(CliError):
    """The file is no JSON schema that can be ordered. The message names it."""


class StopInvalid(CliError):
    """A stop text cannot be ordered."""


@dataclass(frozen=True, slots=True)
class DecodingRules:
    """The rules of an order, and the text of its grammar."""

    sampling: SamplingParams
    grammar: bytes = b""


def make_rules(
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    presence_penalty: float,
    frequency_penalty: float,
    seed: int,
    stop: list[str] | None,
    schema: Path | None,
) -> DecodingRules:
    """The rules of the options. Raises OrderInvalid, SchemaInvalid, StopInvalid."""
    stops = tuple(one.encode() for one in stop or ())
    if len(stops) > STOPS_MAX or any(len(one) > STOP_BYTES_MAX for one in stops):
        raise StopInvalid(f"at most {STOPS_MAX} stop texts of {STOP_BYTES_MAX} bytes each can be ordered")
    grammar = b"" if schema is None else _read_schema(schema)
    sampling = SamplingParams(
        _to_milli(temperature),
        top_k,
        _to_milli(top_p),
        seed,
        _to_milli(min_p),
        _to_milli(repetition_penalty),
        _to_milli(presence_penalty),
        _to_milli(frequency_penalty),
        stop=stops,
        grammar=make_grammar(GrammarKind.JSON_SCHEMA, grammar) if grammar else None,
    )
    validate_sampling(sampling, vocab=1)  # no option names a token
    return DecodingRules(sampling, grammar)


def check_schema(tokenizer: Tokenizer, vocab: int, schema: bytes) -> None:
    """Compile a schema as the workers would: nothing is escrowed for one that they refuse. Raises SchemaInvalid."""
    from inference.decoding.grammar import GrammarEngine  # most questions have no schema

    try:
        GrammarEngine(tokenizer.vocabulary, tokenizer.eos_tokens, vocab).compile(GrammarKind.JSON_SCHEMA, schema)
    except GrammarError as error:
        raise SchemaInvalid(f"--json-schema: {error.message}") from error


def _to_milli(value: float) -> int:
    return round(value * 1000)


def _read_schema(path: Path) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise explain_system_error(error) from error
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaInvalid(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise SchemaInvalid(f"{path} is no JSON schema: a schema is an object")
    if len(text) > GRAMMAR_BYTES_MAX:
        raise SchemaInvalid(f"{path} has {len(text)} bytes; a schema may have {GRAMMAR_BYTES_MAX}")
    return text
