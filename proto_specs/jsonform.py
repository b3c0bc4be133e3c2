"""Records as JSON for people and scripts: objects by field name, variants with their "type", bytes as 0x hex.

Accounts (`Kind("account")`) are SS58 addresses. Integers stay integers. The form is for reading: nothing is hashed or
signed over it, and what is sent to a node is canonical bytes in hex.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

from proto_specs.codec import get_tag
from proto_specs.ss58 import encode_address
from proto_specs.types.common import Kind

_Write = Callable[[Any, int], Any]
_WRITERS: dict[Any, _Write] = {}


def to_json(value: Any, ss58_prefix: int) -> Any:
    """JSON value of a record."""
    return build_writer(type(value))(value, ss58_prefix)


def build_writer(as_type: Any) -> _Write:
    """The function that writes values of a type, built once. Raises TypeError for a type without a JSON form."""
    found = _WRITERS.get(as_type)
    if found is None:
        found = _WRITERS[as_type] = _build(as_type)
    return found


def _build(as_type: Any) -> _Write:
    marks: tuple[Any, ...] = ()
    if typing.get_origin(as_type) is typing.Annotated:
        as_type, *rest = typing.get_args(as_type)
        marks = tuple(rest)
    origin = typing.get_origin(as_type)
    if origin in (typing.Union, types.UnionType):
        return _build_union(typing.get_args(as_type))
    if origin is tuple:
        item = build_writer(typing.get_args(as_type)[0])
        return lambda value, prefix: [item(one, prefix) for one in value]
    if as_type is bytes:
        if Kind("account") in marks:
            return encode_address
        return lambda value, prefix: f"0x{value.hex()}"
    if isinstance(as_type, type) and dataclasses.is_dataclass(as_type):
        return _build_record(as_type)
    if as_type in (int, str, bool):
        return lambda value, prefix: value
    raise TypeError(f"{as_type!r} has no JSON form")


def _build_record(cls: type) -> _Write:
    hints = typing.get_type_hints(cls, include_extras=True)
    writers = [(one.name, build_writer(hints[one.name])) for one in dataclasses.fields(cls)]
    head = {"type": cls.__name__} if _is_variant(cls) else {}
    return lambda value, prefix: {**head, **{name: write(getattr(value, name), prefix) for name, write in writers}}


def _build_union(members: tuple[Any, ...]) -> _Write:
    """A variant is written as its own class; anything else in a union is the one type beside None."""
    classes = [one for one in members if one is not type(None)]
    if len(classes) == 1:
        inner = build_writer(classes[0])
        return lambda value, prefix: None if value is None else inner(value, prefix)
    return lambda value, prefix: None if value is None else build_writer(type(value))(value, prefix)


def _is_variant(cls: type[Any]) -> bool:
    try:
        get_tag(cls)
    except KeyError:
        return False
    return True
