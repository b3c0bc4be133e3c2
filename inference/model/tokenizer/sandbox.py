"""A jinja2 sandbox whose templates end: a budget of steps and seconds for each rendering, a bound on every value made.

jinja2's own sandbox keeps templates from reaching Python. It does not keep them from looping or from making huge texts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

STEPS_MAX = 200_000
RENDER_S_MAX = 2.0
CHARS_MAX = 1 << 21
ITEMS_MAX = 1 << 17
_WIDTH = re.compile(r"\d{4}|\*")
_GROWING = {"center", "ljust", "rjust", "zfill", "expandtabs"}
_FILTERS_LEFT_OUT = ("center", "format", "indent", "pprint", "random", "urlize", "wordwrap", "xmlattr")


@dataclass
class _Budget:
    steps: int
    ends_at: float


_budget: ContextVar[_Budget] = ContextVar("budget")


@contextmanager
def rendering() -> Iterator[None]:
    """Around one rendering: its budget of steps and seconds."""
    token = _budget.set(_Budget(STEPS_MAX, time.monotonic() + RENDER_S_MAX))
    try:
        yield
    finally:
        _budget.reset(token)


def bound(value: Any) -> Any:
    """The value. Raises jinja2's TemplateError when it is a text or a list beyond the bounds."""
    if isinstance(value, str):
        if len(value) > CHARS_MAX:
            raise jinja2.TemplateError(f"it makes a text of more than {CHARS_MAX} characters")
    elif isinstance(value, (list, tuple, dict)) and len(value) > ITEMS_MAX:
        raise jinja2.TemplateError(f"it makes a list of more than {ITEMS_MAX} items")
    return value


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compile with `compile_bounded`, render inside `rendering()`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in _FILTERS_LEFT_OUT:
            del self.filters[name]
        self.filters |= {"indent": _indent, "replace": _replace, "join": _join}
        self.filters |= {"bounded_steps": _count_steps, "bounded_concat": _concat}
        self.concat = _concat  # type: ignore[method-assign]

    def compile_bounded(self, source: str) -> jinja2.Template:
        """The template with every loop and every concatenation counted. Raises jinja2's TemplateError."""
        tree = self.parse(source)
        for loop in list(tree.find_all(nodes.For)):
            if loop.recursive:
                raise jinja2.TemplateError("recursive loops are not supported")
            loop.iter = _filtered(cast(nodes.Expr, loop.iter), "bounded_steps")
        _replace_concats(tree)
        return self.from_string(tree)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Every call a template makes counts as a step; methods that make large texts from small ones are bounded."""
        _step()
        owner = getattr(function, "__self__", None)
        name = getattr(function, "__name__", "")
        if isinstance(owner, str):
            if name in _GROWING and any(isinstance(one, int) and one > CHARS_MAX for one in [*args, *kwargs.values()]):
                raise jinja2.TemplateError(f"{name} makes a text of more than {CHARS_MAX} characters")
            if name in ("format", "format_map") and _WIDTH.search(owner):
                raise jinja2.TemplateError("a format's width has at most 3 digits")
            if name == "replace":
                return _replace(owner, *args, **kwargs)
            if name == "join":
                return _join(args[0] if args else (), owner)
        return bound(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators whose result may be far larger than what they are given."""
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, (str, list, tuple)) and isinstance(other, int) and len(one) * other > CHARS_MAX:
                    raise jinja2.TemplateError(f"it makes a text of more than {CHARS_MAX} characters")
        if operator == "**" and not (isinstance(right, (int, float)) and abs(right) <= 64):
            raise jinja2.TemplateError("powers above 64 are not supported")
        if operator == "%" and isinstance(left, str) and _WIDTH.search(left):
            raise jinja2.TemplateError("a format's width has at most 3 digits")
        for one in (left, right):
            if isinstance(one, int) and one.bit_length() > 4096:
                raise jinja2.TemplateError("it computes with a number of more than 4096 bits")
        return bound(super().call_binop(context, operator, left, right))


def _step() -> None:
    budget = _budget.get()
    budget.steps -= 1
    if budget.steps < 0:
        raise jinja2.TemplateError(f"it takes more than {STEPS_MAX} steps")
    if time.monotonic() > budget.ends_at:
        raise jinja2.TemplateError(f"it takes more than {RENDER_S_MAX} seconds")


def _count_steps(items: Iterable[Any]) -> Iterator[Any]:
    for one in items:
        _step()
        yield one


def _concat(pieces: Iterable[Any]) -> str:
    size = 0
    made = []
    for piece in pieces:
        text = str(piece)
        size += len(text)
        if size > CHARS_MAX:
            raise jinja2.TemplateError(f"it makes a text of more than {CHARS_MAX} characters")
        made.append(text)
    return "".join(made)


def _join(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    made: list[Any] = []
    for one in items:
        if made and separator:
            made.append(separator)
        made.append(one if attribute is None else one[attribute])
        if len(made) > ITEMS_MAX:
            raise jinja2.TemplateError(f"it joins more than {ITEMS_MAX} items")
    return _concat(made)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    text, old, new = str(text), str(old), str(new)
    found = text.count(old) if count < 0 else min(count, text.count(old))
    if len(text) + found * (len(new) - len(old)) > CHARS_MAX:
        raise jinja2.TemplateError(f"it makes a text of more than {CHARS_MAX} characters")
    return text.replace(old, new, count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """jinja2's `indent`, without its cost for huge widths."""
    margin = width if isinstance(width, str) else " " * min(width, 64)
    lines = str(text).splitlines(keepends=True)
    parts = [margin + one if (place or first) and (blank or one.strip()) else one for place, one in enumerate(lines)]
    return _concat(parts)


def _filtered(inner: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(inner, name, [], [], None, None, lineno=inner.lineno)


def _replace_concats(node: nodes.Node) -> None:
    for field, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            setattr(node, field, _replace_concat(value))
        elif isinstance(value, list):
            setattr(node, field, [_replace_concat(one) if isinstance(one, nodes.Node) else one for one in value])


def _replace_concat(node: nodes.Node) -> nodes.Node:
    _replace_concats(node)
    if not isinstance(node, nodes.Concat):
        return node
    made = _filtered(nodes.List(node.nodes, lineno=node.lineno), "bounded_concat")
    return made.set_environment(node.environment) if node.environment is not None else made
