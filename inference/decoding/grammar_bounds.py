"""Bounds of a grammar's text, checked before an engine that recurses over it sees it. Knows no engine."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from inference.errors import GrammarError
from proto_specs.limits import GRAMMAR_BYTES_MAX

SCHEMA_DEPTH_MAX = 64
SCHEMA_NODES_MAX = 10_000
LARK_BRACKETS_MAX = 1_000
LARK_LINES_MAX = 1_000
"""Rules refer to each other, one in a line: a chain of them is as deep as there are lines."""

_BRACKETS = re.compile(r"[(\[{]")


def check_json_schema(text: str) -> None:
    """Raises GrammarError for what is no JSON object, or one that is too deep or too large."""
    _check_size(text)
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"the JSON schema is not JSON ({error}): correct it") from error
    if not isinstance(schema, dict):
        raise GrammarError("a JSON schema is an object: send one")
    level: list[Any] = [schema]
    nodes = 0
    for _ in range(SCHEMA_DEPTH_MAX):
        nodes += len(level)
        if nodes > SCHEMA_NODES_MAX:
            raise GrammarError(f"the JSON schema has more than {SCHEMA_NODES_MAX} values: simplify it")
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [one for values in inner for one in values]
        if not level:
            return
    raise GrammarError(f"the JSON schema is more than {SCHEMA_DEPTH_MAX} levels deep: simplify it")


def check_lark(text: str) -> None:
    """Raises GrammarError for a grammar with too many lines or brackets."""
    _check_size(text)
    if text.count("\n") + text.count("\r") > LARK_LINES_MAX or len(_BRACKETS.findall(text)) > LARK_BRACKETS_MAX:
        raise GrammarError(f"a grammar has at most {LARK_LINES_MAX} lines and {LARK_BRACKETS_MAX} brackets: simplify it")


def _check_size(text: str) -> None:
    if not text or len(text.encode()) > GRAMMAR_BYTES_MAX:
        raise GrammarError(f"a grammar has 1 to {GRAMMAR_BYTES_MAX} bytes of text: shorten it")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
