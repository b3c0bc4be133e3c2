"""A jinja2 sandbox whose templates end: a budget of steps and seconds for each rendering, a bound on every value made.

jinja2's own sandbox keeps templates from reaching Python, not from looping or from making huge values.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

STEPS_MAX = 200_000
RENDER_S_MAX = 2.0
CHARS_MAX = 1 << 21
ITEMS_MAX = 1 << 17
_WIDTH = re.compile(r"\d{4}|\*")
_WIDTH_MAX = 256
_NUMBER_BITS_MAX = 4096
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
# Filters whose cost and result are in proportion to what they are given.
_FILTERS = (
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby",
    "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "safe",
    "select", "selectattr", "sort", "string", "title", "trim", "truncate", "unique", "upper", "urlencode", "wordcount",
)  # fmt: skip
_GLOBALS = ("range", "dict", "namespace", "cycler", "joiner")


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
    """The value. Raises jinja2's TemplateError when it is beyond the bounds, all that it holds counted."""
    if isinstance(value, (str, list, tuple, Mapping)):
        chars = items = 0
        waiting: list[Any] = [value]
        while waiting:
            one = waiting.pop()
            items += 1
            if isinstance(one, str):
                chars += len(one)
            elif isinstance(one, (list, tuple)):
                items += len(one)
                waiting += one if items <= ITEMS_MAX else ()
            elif isinstance(one, Mapping):
                items += len(one)
                waiting += [*one.keys(), *one.values()] if items <= ITEMS_MAX else ()
            elif isinstance(one, Namespace):
                raise jinja2.TemplateError("it puts a namespace into a list")
            if chars > CHARS_MAX or items > ITEMS_MAX:
                raise jinja2.TemplateError(f"it makes a value of more than {CHARS_MAX} characters or {ITEMS_MAX} items")
    return value


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compile with `compile_bounded`, render inside `rendering()`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.globals = {name: self.globals[name] for name in _GLOBALS}
        self.filters = {name: self.filters[name] for name in _FILTERS}
        self.filters |= {"format": _format, "indent": _indent, "join": _join, "replace": _replace, "round": _round}
        self.filters |= {"bounded": bound, "bounded_concat": _concat, "bounded_steps": _count_steps}
        self.globals["namespace"] = _FlatNamespace
        self.finalize = _finalize
        self.concat = _concat  # type: ignore[method-assign]

    def compile_bounded(self, source: str) -> jinja2.Template:
        """The template with every loop counted and every value it writes bounded. Raises jinja2's TemplateError."""
        tree = self.parse(source)
        for loop in list(tree.find_all(nodes.For)):
            if loop.recursive:
                raise jinja2.TemplateError("recursive loops are not supported")
            loop.iter = _filtered(cast(nodes.Expr, loop.iter), "bounded_steps")
        _bound_parts(tree)
        return self.from_string(tree)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Every call a template makes counts as a step; methods that make large texts from small ones are bounded."""
        _step()
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, str):
            given = {key: one for key, one in kwargs.items() if key not in ("_loop_vars", "_block_vars")}
            if name in _PADDING and any(isinstance(one, int) and one > _WIDTH_MAX for one in [*args, *given.values()]):
                raise jinja2.TemplateError(f"{name} pads to at most {_WIDTH_MAX} characters")
            if name in ("format", "format_map"):
                _check_format(owner, "{", [*args, *given.values()])
            if name == "replace":
                return _replace(owner, *args, **given)
            if name == "join":
                return _join(args[0] if args else (), owner)
        return bound(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators whose result may be far larger than what they are given."""
        for one, other in ((left, right), (right, left)):
            if isinstance(one, int) and one.bit_length() > _NUMBER_BITS_MAX:
                raise jinja2.TemplateError(f"it computes with a number of more than {_NUMBER_BITS_MAX} bits")
            is_repeated = operator == "*" and isinstance(one, (str, list, tuple)) and isinstance(other, int)
            if is_repeated and len(one) * other > (CHARS_MAX if isinstance(one, str) else ITEMS_MAX):
                raise jinja2.TemplateError("it repeats a text or list too often")
        if operator == "**" and not (isinstance(right, (int, float)) and abs(right) <= 64):
            raise jinja2.TemplateError("powers above 64 are not supported")
        if operator == "%" and isinstance(left, str):
            _check_format(left, "%", [right])
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


class _FlatNamespace(Namespace):
    """A namespace that holds no namespace: a chain of them has a text that doubles with each."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        for one in dict(*args, **values).values():
            _check_flat(one)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_flat(value)
        super().__setitem__(name, value)


def _check_flat(value: Any) -> None:
    if isinstance(value, Namespace):
        raise jinja2.TemplateError("it puts a namespace into a namespace")


def _finalize(value: Any) -> Any:
    """What a template writes: JSON's types, bounded."""
    if not isinstance(value, (str, int, float, list, tuple, Mapping, jinja2.Undefined, type(None))):
        raise jinja2.TemplateError(f"it writes a {type(value).__name__}")
    return bound(value)


def _concat(pieces: Iterable[Any]) -> str:
    size = 0
    made = []
    for piece in pieces:
        text = str(_finalize(piece))
        size += len(text)
        if size > CHARS_MAX:
            raise jinja2.TemplateError(f"it makes a text of more than {CHARS_MAX} characters")
        made.append(text)
    return "".join(made)


def _join(items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    made: list[Any] = []
    for one in items:
        if made and d:
            made.append(d)
        made.append(one if attribute is None else one[attribute])
        if len(made) > ITEMS_MAX:
            raise jinja2.TemplateError(f"it joins more than {ITEMS_MAX} items")
    return _concat(made)


def _replace(text: str, old: str, new: str, count: int | None = None) -> str:
    text, old, new = str(text), str(old), str(new)
    found = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    if len(text) + found * (len(new) - len(old)) > CHARS_MAX:
        raise jinja2.TemplateError(f"it makes a text of more than {CHARS_MAX} characters")
    return text.replace(old, new, -1 if count is None else count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = width if isinstance(width, str) else " " * min(width, _WIDTH_MAX)
    lines = str(text).splitlines(keepends=True)
    return _concat(
        margin + one if (place or first) and (blank or one.strip()) else one for place, one in enumerate(lines)
    )


def _format(value: str, *args: Any, **kwargs: Any) -> str:
    _check_format(str(value), "%", [*args, *kwargs.values()])
    return str(value) % (kwargs or args)


def _round(value: float, precision: int = 0) -> float:
    return round(value, max(-16, min(16, precision)))


def _check_format(form: str, mark: str, values: list[Any]) -> None:
    """A format's result is no longer than its own text and, for each mark in it, all of the values and a width."""
    if _WIDTH.search(form) or form.count(mark) * (len(_concat([bound(values)])) + 999) > CHARS_MAX:
        raise jinja2.TemplateError("a format's width has at most 3 digits, and its result is no huge text")


def _filtered(inner: nodes.Expr, name: str) -> nodes.Filter:
    made = nodes.Filter(inner, name, [], [], None, None, lineno=inner.lineno)
    made.environment = inner.environment
    return made


def _bound_parts(node: nodes.Node) -> None:
    for field, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            setattr(node, field, _bound_part(value))
        elif isinstance(value, list):
            setattr(node, field, [_bound_part(one) if isinstance(one, nodes.Node) else one for one in value])


def _bound_part(node: nodes.Node) -> nodes.Node:
    """Concatenations, lists and objects written in a template go through a bound. Targets of assignments stay."""
    _bound_parts(node)
    if isinstance(node, nodes.Concat):
        return _filtered(nodes.List(node.nodes, lineno=node.lineno, environment=node.environment), "bounded_concat")
    is_read = isinstance(node, (nodes.List, nodes.Dict)) or (isinstance(node, nodes.Tuple) and node.ctx == "load")
    return _filtered(node, "bounded") if is_read and isinstance(node, nodes.Expr) else node
