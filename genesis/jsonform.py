"""Reads what `proto_specs.jsonform` writes, strictly: each field by name, once, within its bounds, and no others."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from genesis.errors import SpecError
from proto_specs.codec import Fixed, Max, UInt
from proto_specs.errors import AddressError
from proto_specs.ss58 import decode_address
from proto_specs.types.common import Kind

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
    base, marks = _split(as_type)
    if dataclasses.is_dataclass(base):
        return _read_record(base, raw, field, prefix)
    if typing.get_origin(base) is tuple:
        _require(isinstance(raw, list), field, "has to be a list")
        _require(len(raw) <= _mark(marks, Max).length, field, "is too long")
        item = typing.get_args(base)[0]
        return tuple(_read(item, one, f"{field}[{index}]", prefix) for index, one in enumerate(raw))
    if base is bytes:
        return _read_bytes(raw, field, prefix, marks)
    if base is int:
        bits = _mark(marks, UInt).bits
        is_integer = isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < 1 << bits
        _require(is_integer, field, f"has to be an integer of {bits} bits, not {raw!r:.40}")
        return raw
    _require(isinstance(raw, str) and len(raw.encode()) <= _mark(marks, Max).length, field, "has to be a short text")
    return raw


def _read_record(cls: Any, raw: Any, field: str, prefix: int) -> Any:
    _require(isinstance(raw, dict), field, "has to be an object")
    names = [one.name for one in dataclasses.fields(cls)]
    dot = f"{field}." if field else ""
    for name in raw:
        _require(name in names, f"{dot}{name}", "is no field here")
    for name in names:
        _require(name in raw, f"{dot}{name}", "is missing")
    hints = typing.get_type_hints(cls, include_extras=True)
    return cls(*(_read(hints[name], raw[name], f"{dot}{name}", prefix) for name in names))


def _read_bytes(raw: Any, field: str, prefix: int, marks: tuple[Any, ...]) -> bytes:
    _require(isinstance(raw, str), field, "has to be text")
    is_address = Kind("account") in marks
    _require(is_address or raw.startswith("0x"), field, "has to start with 0x")
    try:
        value = decode_address(raw, prefix) if is_address else bytes.fromhex(raw[2:])
    except (AddressError, ValueError) as error:
        raise SpecError(field, f"is wrong: {error}") from error
    _require(len(value) == _mark(marks, Fixed).length, field, f"has {len(value)} bytes")
    return value


def _split(as_type: Any) -> tuple[Any, tuple[Any, ...]]:
    if typing.get_origin(as_type) is typing.Annotated:
        base, *marks = typing.get_args(as_type)
        return base, tuple(marks)
    return as_type, ()


def _mark(marks: tuple[Any, ...], kind: type[T]) -> T:
    return next(mark for mark in marks if isinstance(mark, kind))


def _require(holds: bool, field: str, text: str) -> None:
    if not holds:
        raise SpecError(field, text)
