"""Schemas of clients, bounded before a grammar engine sees them, and the grammars that orders name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import trio

from inference.decoding.grammar import GrammarEngine
from inference.errors import GrammarError
from node.gateway.catalog import OfferedModel
from node.gateway.errors import ApiRefusal, refuse
from proto_specs.limits import GRAMMAR_BYTES_MAX
from proto_specs.types.sampling import Grammar, GrammarKind, make_grammar

SCHEMA_BYTES_MAX = 32 * 1024
SCHEMA_DEPTH_MAX = 24
SCHEMA_VALUES_MAX = 2_000
PATTERN_CHARS_MAX = 256
COUNT_MAX = 1_000
COMPILE_TIMEOUT_S = 5.0
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class BoundGrammar:
    """A grammar's text, and what an order says of it."""

    reference: Grammar
    text: bytes


class GrammarJudge:
    """Says whether the engine that workers draw with takes a grammar, over the same vocabulary and with its limits.

    Compiles in threads, two at a time. An engine is made once for each model.
    """

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(2)
        self._lock = trio.Lock()
        self._engines: dict[bytes, GrammarEngine] = {}

    async def find_fault(self, model: OfferedModel, kind: GrammarKind, text: str) -> str:
        """What is wrong with it, in a line; empty when nothing is."""
        async with self._lock:
            engine = self._engines.get(model.model)
            if engine is None:
                engine = await trio.to_thread.run_sync(_make_engine, model, limiter=self._threads)
                self._engines[model.model] = engine
        try:
            with trio.fail_after(COMPILE_TIMEOUT_S):
                return await trio.to_thread.run_sync(  # type: ignore[call-arg]  # the stubs are older than trio
                    _judge, engine, kind, text, limiter=self._threads, abandon_on_cancel=True
                )
        except trio.TooSlowError:
            return f"it takes more than {COMPILE_TIMEOUT_S:.0f} s to compile: make it simpler"


def _make_engine(model: OfferedModel) -> GrammarEngine:
    tokenizer = model.tokenizer
    return GrammarEngine(tokenizer.vocabulary, tokenizer.eos_tokens, model.bounds.vocab)


def _judge(engine: GrammarEngine, kind: GrammarKind, text: str) -> str:
    try:
        engine.compile(kind, text.encode())
    except GrammarError as error:
        return error.message[:_ERROR_CHARS]
    return ""


async def make_schema_grammar(
    judge: GrammarJudge, model: OfferedModel, schema: dict[str, Any], param: str
) -> BoundGrammar:
    """The grammar of answers that fit a JSON schema. Raises ApiRefusal 400 for a schema that is not taken."""
    return await make_bound_grammar(judge, model, GrammarKind.JSON_SCHEMA, write_schema(schema, param), param)


async def make_bound_grammar(
    judge: GrammarJudge, model: OfferedModel, kind: GrammarKind, text: str, param: str
) -> BoundGrammar:
    """A grammar that the engine takes. Raises ApiRefusal 400 for one that it does not."""
    data = text.encode()
    if len(data) > GRAMMAR_BYTES_MAX:
        raise refuse(f"{param}: the schemas make a grammar of more than {GRAMMAR_BYTES_MAX} bytes", param)
    fault = await judge.find_fault(model, kind, text)
    if fault:
        raise refuse_schema(param, fault)
    return BoundGrammar(make_grammar(kind, data), data)


def write_schema(schema: dict[str, Any], param: str) -> str:
    """The schema's compact JSON; properties stay in their order, which answers follow. Raises ApiRefusal 400."""
    for count, (key, value, depth) in enumerate(_walk(schema)):
        if count >= SCHEMA_VALUES_MAX or depth > SCHEMA_DEPTH_MAX:
            limits = f"{SCHEMA_VALUES_MAX} values, nested {SCHEMA_DEPTH_MAX} deep"
            raise refuse_schema(param, f"it is larger than {limits}")
        if key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise refuse_schema(param, "$ref points into the schema itself, with #/...")
        if key == "pattern" and isinstance(value, str) and len(value) > PATTERN_CHARS_MAX:
            raise refuse_schema(param, f"a pattern has at most {PATTERN_CHARS_MAX} characters")
        if key in _COUNTS and isinstance(value, int | float) and value > COUNT_MAX:
            raise refuse_schema(param, f"{key} is at most {COUNT_MAX}")
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > SCHEMA_BYTES_MAX:
        raise refuse_schema(param, f"it has more than {SCHEMA_BYTES_MAX} bytes")
    return text


def refuse_schema(param: str, fault: str) -> ApiRefusal:
    """400: the schema is not taken."""
    return refuse(f"{param}: this JSON schema is not supported: {fault}", param, "invalid_json_schema")


def _walk(schema: dict[str, Any]) -> Iterator[tuple[str, Any, int]]:
    stack: list[tuple[str, Any, int]] = [("", schema, 0)]
    while stack:
        key, value, depth = stack.pop()
        yield key, value, depth
        if isinstance(value, dict):
            stack += [(name, one, depth + 1) for name, one in value.items()]
        elif isinstance(value, list):
            stack += [("", one, depth + 1) for one in value]
