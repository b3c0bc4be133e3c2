"""Reads what `proto_specs.jsonform` writes, strictly: each field by name, once, within its bounds, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from genesis.errors import SpecError
from proto_specs.errors import AddressError
from proto_specs.shapes import (
    AccountShape,
    BytesShape,
    IntegerShape,
    ListShape,
    RecordShape,
    TextShape,
    get_shape,
)
from proto_specs.ss58 import decode_address

T = TypeVar("T")


def from_json(as_type: type[T], raw: Any) -> T:
    """A record; `raw["ss58_prefix"]` is for its addresses. Raises SpecError for missing, unknown, wrong fields."""
    prefix = raw.get("ss58_prefix") if isinstance(raw, dict) else None
    if not isinstance(prefix, int) or isinstance(prefix, bool) or not 0 <= prefix < 1 << 14:
        raise SpecError("ss58_prefix", "has to be an integer below 16384")
    return read_json(as_type, raw, prefix)


def read_json(as_type: type[T], raw: Any, ss58_prefix: int) -> T:
    """As `from_json`, with the address prefix as an argument. Raises SpecError."""
    value: T = _read(as_type, raw, "", ss58_prefix)
    return value


def _read(as_type: Any, raw: Any, field: str, prefix: int) -> Any:
    match get_shape(as_type):
        case RecordShape() as shape:
            return _read_record(shape, raw, field, prefix)
        case ListShape(item, int(length_max)):
            _require(isinstance(raw, list), field, "has to be a list")
            _require(len(raw) <= length_max, field, "is too long")
            return tuple(_read(item, one, f"{field}[{index}]", prefix) for index, one in enumerate(raw))
        case AccountShape():
            _require(isinstance(raw, str), field, "has to be text")
            return _parse(lambda: decode_address(raw, prefix), field)
        case BytesShape(int(length)):
            _require(isinstance(raw, str), field, "has to be text")
            _require(raw.startswith("0x"), field, "has to start with 0x")
            value = _parse(lambda: bytes.fromhex(raw[2:]), field)
            _require(len(value) == length, field, f"has {len(value)} bytes")
            return value
        case IntegerShape(int(bits), False):
            is_integer = isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < 1 << bits
            _require(is_integer, field, f"has to be an integer of {bits} bits, not {raw!r:.40}")
            return raw
        case TextShape(int(length_max)):
            _require(isinstance(raw, str) and len(raw.encode()) <= length_max, field, "has to be a short text")
            return raw
        case shape:
            raise TypeError(f"{field}: no record that is read from JSON has a field of {shape}")


def _read_record(shape: RecordShape, raw: Any, field: str, prefix: int) -> Any:
    _require(isinstance(raw, dict), field, "has to be an object")
    dot = f"{field}." if field else ""
    for name in raw:
        _require(name in shape.fields, f"{dot}{name}", "is no field here")
    for name in shape.fields:
        _require(name in raw, f"{dot}{name}", "is missing")
    return shape.cls(*(_read(one, raw[name], f"{dot}{name}", prefix) for name, one in shape.fields.items()))


def _parse(parse: Callable[[], bytes], field: str) -> bytes:
    try:
        return parse()
    except (AddressError, ValueError) as error:
        raise SpecError(field, f"is wrong: {error}") from error


def _require(holds: bool, field: str, text: str) -> None:
    if not holds:
        raise SpecError(field, text)
