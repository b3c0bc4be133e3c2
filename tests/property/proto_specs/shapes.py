"""Every record of the protocol, a hypothesis strategy for each made from its annotations, and its smallest value."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from hypothesis import strategies as st

from proto_specs import types as protocol
from proto_specs.codec import Fixed, Int, Max, UInt
from proto_specs.types import calls, chain, wire
from proto_specs.types.common import Kind

_MODULES = [
    importlib.import_module(f"{protocol.__name__}.{one.name}")
    for one in pkgutil.iter_modules(protocol.__path__)
    if one.name != "common"
]
"""All that declare records; what is common to them declares bounds."""
_LIST_ITEMS, _BYTES = 3, 40
"""What strategies stay below, so that examples stay small; bounds have tests of their own."""


def _collect() -> dict[str, Any]:
    found: dict[str, Any] = {"Call": calls.Call, "Frame": wire.Frame, "Evidence": chain.Evidence}
    for module in _MODULES:
        for name, one in vars(module).items():
            if dataclasses.is_dataclass(one) and getattr(one, "__module__", "") == module.__name__:
                found[name] = one
    return found


TYPES: dict[str, Any] = _collect()
"""By name: every record and variant declared in proto_specs/types, and the unions."""

_KNOWN: dict[Any, st.SearchStrategy[Any]] = {}


def values_of(as_type: Any) -> st.SearchStrategy[Any]:
    """Values of a declared type, bounds of numbers included."""
    if as_type not in _KNOWN:
        _KNOWN[as_type] = _build(as_type)
    return _KNOWN[as_type]


def _build(as_type: Any) -> st.SearchStrategy[Any]:
    base, mark = split(as_type)
    if base is bool:
        return st.booleans()
    if base is int:
        return _signed(mark.bits) if isinstance(mark, Int) else _integers(mark.bits)
    if base is bytes:
        least = mark.length if isinstance(mark, Fixed) else 0
        return st.binary(min_size=least, max_size=max(least, min(mark.length, _BYTES)))
    if base is str:
        text = st.text(st.characters(exclude_categories=["Cs"]), max_size=min(mark.length, _BYTES) // 4)
        return text.filter(lambda one: len(one.encode()) <= mark.length)
    if typing.get_origin(base) is tuple:
        items = values_of(typing.get_args(base)[0])
        return st.lists(items, max_size=min(mark.length, _LIST_ITEMS)).map(tuple)
    members = get_members(base)
    if members is not None:
        return st.one_of([st.none() if one is type(None) else values_of(one) for one in members])
    return st.builds(base, *[values_of(hint) for _, hint in get_fields(base)])


def _integers(bits: int) -> st.SearchStrategy[int]:
    """Numbers around every change of form as well as any others."""
    edges = [edge + step for edge in (0, 1 << 7, 1 << 8, 1 << 16, 1 << 32, 1 << bits) for step in (-1, 0, 1)]
    top = (1 << bits) - 1
    return st.one_of(st.sampled_from([one for one in edges if 0 <= one <= top]), st.integers(0, top))


def _signed(bits: int) -> st.SearchStrategy[int]:
    low, top = -(1 << bits - 1), (1 << bits - 1) - 1
    edges = [sign * (1 << at) + step for at in (0, 5, 7, 15, 31) for step in (-1, 0, 1) for sign in (1, -1)]
    return st.one_of(st.sampled_from([one for one in edges if low <= one <= top]), st.integers(low, top))


def split(as_type: Any) -> tuple[Any, Any]:
    """(plain type, its bound or None)."""
    if typing.get_origin(as_type) is not Annotated:
        return as_type, None
    base, *marks = typing.get_args(as_type)
    return base, next(one for one in reversed(marks) if not isinstance(one, Kind))


def get_members(base: Any) -> tuple[Any, ...] | None:
    """The members of a union, None for anything else."""
    return typing.get_args(base) if typing.get_origin(base) in (typing.Union, types.UnionType) else None


def get_fields(cls: Any) -> list[tuple[str, Any]]:
    """(name, annotated type) of a record's fields, in order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return [(one.name, hints[one.name]) for one in dataclasses.fields(cls)]


def make_smallest(as_type: Any) -> Any:
    """The value with the shortest encoding: zeros, nothing, no items, the first member."""
    base, mark = split(as_type)
    members = get_members(base)
    if members is not None:
        return None if type(None) in members else make_smallest(members[0])
    if dataclasses.is_dataclass(base):
        return typing.cast(Any, base)(*[make_smallest(hint) for _, hint in get_fields(base)])
    if isinstance(mark, Fixed):
        return bytes(mark.length)
    return () if typing.get_origin(base) is tuple else base()


def list_bounded_fields() -> Iterator[tuple[Any, str, Any, Any]]:
    """(record, field, plain type, bound) of every field with a bound, optional ones and items of lists left out."""
    for cls in TYPES.values():
        if get_members(cls) is not None:
            continue
        for name, hint in get_fields(cls):
            base, mark = split(hint)
            if isinstance(mark, UInt | Int | Fixed | Max):
                yield cls, name, base, mark


def list_negatives(value: Any, as_type: Any) -> Iterator[type]:
    """The kind of bound of every negative number in a value."""
    base, mark = split(as_type)
    if value is None:
        return
    members = get_members(base)
    if members is not None:
        base = type(value)
    if dataclasses.is_dataclass(base):
        for name, hint in get_fields(typing.cast(type, base)):
            yield from list_negatives(getattr(value, name), hint)
    elif isinstance(value, tuple):
        for item in value:
            yield from list_negatives(item, typing.get_args(base)[0])
    elif isinstance(value, int) and value < 0:
        yield type(mark if members is None else split(next(iter(members)))[1])
