"""Records of the JSON that a node shows, for those that hold no accounts: the inverse of `proto_specs.jsonform`."""

from __future__ import annotations

from typing import Any, TypeVar

from proto_specs.errors import DecodeError
from proto_specs.shapes import (
    BooleanShape,
    BytesShape,
    IntegerShape,
    ListShape,
    OptionalShape,
    RecordShape,
    TextShape,
    get_shape,
)

T = TypeVar("T")


def read_record(cls: type[T], value: Any) -> T:
    """The record that was shown. Raises DecodeError for anything else; bounds are checked when it is encoded."""
    try:
        found: T = _read(cls, value)
    except (TypeError, ValueError, KeyError) as error:
        raise DecodeError(f"the node shows no {cls.__name__}") from error
    return found


def _read(as_type: Any, value: Any) -> Any:
    match get_shape(as_type):
        case BooleanShape():
            return bool(value)
        case IntegerShape():
            return int(value)
        case TextShape():
            return str(value)
        case BytesShape():
            return bytes.fromhex(value.removeprefix("0x"))
        case ListShape(item):
            return tuple(_read(item, one) for one in value)
        case OptionalShape(inner):
            return None if value is None else _read(inner, value)
        case RecordShape(cls, fields):
            return cls(**{name: _read(one, value[name]) for name, one in fields.items()})
        case _:
            raise TypeError("not read here")
