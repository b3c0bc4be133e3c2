"""Runs a model's chat template: the model owner's code, in jinja2's immutable sandbox, bounded in time and output.

It offers what templates are written for: loop controls, `generation` blocks, a `tojson` that leaves text as it
is, `raise_exception` and `strftime_now`.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from inference.errors import TokenizerError
from inference.model.tokenizer.sandbox import BoundedEnvironment, bound, rendering

TEMPLATE_BYTES_MAX = 1 << 18
_TIME_FORMAT_CHARS_MAX = 64
_ERROR_CHARS_MAX = 300


class ChatTemplate:
    """A compiled template. Immutable and thread-safe."""

    def __init__(self, source: str) -> None:
        """Raises TokenizerError for a template that does not compile or is over-long."""
        if len(source.encode("utf-8", errors="replace")) > TEMPLATE_BYTES_MAX:
            raise TokenizerError(f"the model's chat template has more than {TEMPLATE_BYTES_MAX} bytes: shorten it")
        environment = BoundedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _strftime_now}
        try:
            self._template = environment.compile_bounded(source)
        except (jinja2.TemplateError, RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
            raise TokenizerError(f"the model's chat template is not valid: {_line(error)}") from error

    def render(self, variables: dict[str, Any]) -> str:
        """The text. Raises TokenizerError when the template fails, refuses, or does too much."""
        try:
            with rendering():
                return self._template.render(variables)
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise TokenizerError(f"the model's chat template refuses these messages: {_line(error)}") from error
        except (AttributeError, AssertionError, MemoryError) as error:
            raise TokenizerError(f"the model's chat template fails on these messages: {_line(error)}") from error


class _Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here it is nothing."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | list[str] | None = None,
    sort_keys: bool = False,
) -> str:
    pair = None if separators is None else (str(separators[0]), str(separators[1]))
    if (indent if isinstance(indent, int) else len(indent or ())) > 16:
        raise jinja2.TemplateError("tojson indents by at most 16 spaces")
    bound(value)
    made = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys)
    bound(made)
    return made


def _strftime_now(form: str) -> str:
    if not isinstance(form, str) or len(form) > _TIME_FORMAT_CHARS_MAX or any(one.isdigit() for one in form):
        raise jinja2.TemplateError(f"a time's format has at most {_TIME_FORMAT_CHARS_MAX} characters and no width")
    return datetime.now().strftime(form)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:_ERROR_CHARS_MAX] or type(error).__name__


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(str(message))
