"""Bounds of a grammar's text, checked before an engine that recurses over it sees it. Knows no engine."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

from inference.errors import GrammarError
from proto_specs.limits import GRAMMAR_BYTES_MAX

SCHEMA_DEPTH_MAX = 64
SCHEMA_NODES_MAX = 10_000
MULTIPLES_MAX = 10_000
"""The engine takes time and memory for every remainder of `multipleOf`, and for their product where several meet."""
LARK_BRACKETS_MAX = 1_000
LARK_LINES_MAX = 1_000
"""Rules refer to each other, one in a line: a chain of them is as deep as there are lines."""

_BRACKETS = re.compile(r"[(\[{]")
_SCHEMA = re.compile(r"%json\s*")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice in an object")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_doubles)


def check_json_schema(text: str) -> None:
    """Raises GrammarError for what is no JSON object, or one that is too deep or too large."""
    _check_size(text)
    try:
        schema = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"the JSON schema is not JSON ({error}): correct it") from error
    _check_schema(schema)


def check_lark(text: str) -> None:
    """Raises GrammarError for a grammar with too many lines or brackets, or one that holds such a JSON schema."""
    _check_size(text)
    if text.count("\n") + text.count("\r") > LARK_LINES_MAX or len(_BRACKETS.findall(text)) > LARK_BRACKETS_MAX:
        raise GrammarError(
            f"a grammar has at most {LARK_LINES_MAX} lines and {LARK_BRACKETS_MAX} brackets: simplify it"
        )
    for found in _SCHEMA.finditer(text):
        try:
            schema, _ = _DECODER.raw_decode(text, found.end())
        except (ValueError, RecursionError) as error:
            raise GrammarError(f"what follows %json in the grammar is not JSON ({error}): correct it") from error
        _check_schema(schema)


def _check_schema(schema: object) -> None:
    if not isinstance(schema, dict):
        raise GrammarError("a JSON schema is an object: send one")
    level: list[Any] = [schema]
    nodes = 0
    remainders = 1
    for _ in range(SCHEMA_DEPTH_MAX):
        nodes += len(level)
        if nodes > SCHEMA_NODES_MAX:
            raise GrammarError(f"the JSON schema has more than {SCHEMA_NODES_MAX} values: simplify it")
        for one in level:
            if isinstance(one, dict) and "multipleOf" in one:
                remainders *= _count_remainders(one["multipleOf"])
        if remainders > MULTIPLES_MAX:
            raise GrammarError(f"the values of multipleOf have a product above {MULTIPLES_MAX}: use smaller ones")
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [one for values in inner for one in values]
        if not level:
            return
    raise GrammarError(f"the JSON schema is more than {SCHEMA_DEPTH_MAX} levels deep: simplify it")


def _count_remainders(value: object) -> int:
    """How many remainders there are by a `multipleOf`, whose decimal point is moved to the end."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1  # a property of that name, or what the engine refuses
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if sign or not isinstance(exponent, int) or len(digits) + max(exponent, 0) > len(str(MULTIPLES_MAX)):
        return MULTIPLES_MAX + 1
    return max(int("".join(map(str, digits)) + "0" * exponent), 1)


def _check_size(text: str) -> None:
    if not text or len(text.encode()) > GRAMMAR_BYTES_MAX:
        raise GrammarError(f"a grammar has 1 to {GRAMMAR_BYTES_MAX} bytes of text: shorten it")
