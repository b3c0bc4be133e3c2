"""Records as JSON for people and scripts: objects by field name, variants with their "type", bytes as 0x hex.

Accounts (`Kind("account")`) are SS58 addresses. Integers stay integers. The form is for reading: nothing is hashed or
signed over it, and what is sent to a node is canonical bytes in hex.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proto_specs.codec import is_variant
from proto_specs.shapes import (
    AccountShape,
    BooleanShape,
    BytesShape,
    IntegerShape,
    ListShape,
    OptionalShape,
    RecordShape,
    TextShape,
    UnionShape,
    get_shape,
)
from proto_specs.ss58 import encode_address

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
    match get_shape(as_type):
        case BooleanShape() | IntegerShape() | TextShape():
            return lambda value, prefix: value
        case AccountShape():
            return encode_address
        case BytesShape():
            return lambda value, prefix: f"0x{value.hex()}"
        case ListShape(item):
            write_item = build_writer(item)
            return lambda value, prefix: [write_item(one, prefix) for one in value]
        case OptionalShape(inner):
            write_inner = build_writer(inner)
            return lambda value, prefix: None if value is None else write_inner(value, prefix)
        case UnionShape():
            return lambda value, prefix: None if value is None else build_writer(type(value))(value, prefix)
        case RecordShape(cls, fields):
            return _build_record(cls, fields)


def _build_record(cls: type, fields: dict[str, Any]) -> _Write:
    writers = [(name, build_writer(as_type)) for name, as_type in fields.items()]
    head = {"type": cls.__name__} if is_variant(cls) else {}
    return lambda value, prefix: {**head, **{name: write(getattr(value, name), prefix) for name, write in writers}}
