"""Canonical encoding: a record is a MessagePack array of its fields in declared order. The only importer of msgpack.

Rules (normative, see encoding.md): shortest form of every integer and length, no floats, no maps, no extension types,
bounded lengths, no trailing bytes. So a value has exactly one encoding, and decoding and encoding again gives the same
bytes.

Decoding follows the expected type and stops at the first byte that does not fit it: nothing is built before its bound
is checked, so hostile bytes cost no more than honest bytes. (A general MessagePack reader builds first: 60 MB of empty
lists took it 21 s and 4 GB.)
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, dataclass_transform

import msgpack

from proto_specs import limits
from proto_specs.codegen import Field, Pack, Parse, build_pack, build_parse
from proto_specs.errors import DecodeError
from proto_specs.scalars import (
    LIST_HEADS,
    NIL,
    UINT_HEADS,
    make_bytes_codec,
    make_int_codec,
    make_text_codec,
    make_uint_codec,
    pack_bool,
    parse_bool,
    parse_head,
)

T = TypeVar("T")


@dataclass(frozen=True)
class UInt:
    """An unsigned integer of at most `bits` bits."""

    bits: int


@dataclass(frozen=True)
class Int:
    """A signed integer of `bits` bits, in two's complement: -2^(bits-1) to 2^(bits-1) - 1."""

    bits: int


@dataclass(frozen=True)
class Fixed:
    """A byte string of exactly `length` bytes."""

    length: int


@dataclass(frozen=True)
class Max:
    """A byte string, text (in UTF-8 bytes) or list (in items) of at most `length`."""

    length: int


U8 = Annotated[int, UInt(8)]
U16 = Annotated[int, UInt(16)]
U32 = Annotated[int, UInt(32)]
U64 = Annotated[int, UInt(64)]
I16 = Annotated[int, Int(16)]
I32 = Annotated[int, Int(32)]

# A (pack, parse) pair: value -> plain value for msgpack; (bytes, position) -> (value, position after it).
_Pack = Pack
_Parse = Parse
_CODECS: dict[Any, tuple[_Pack, _Parse]] = {}
_TAGS: dict[type, int] = {}


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass with slots that `encode` and `decode` understand."""
    return dataclass(frozen=True, slots=True)(cls)


@dataclass_transform(frozen_default=True)
def variant(tag: int) -> Callable[[type[T]], type[T]]:
    """Class decorator: a record that may stand in a union, encoded as [tag, *fields]."""

    def decorate(cls: type[T]) -> type[T]:
        made = dataclass(frozen=True, slots=True)(cls)
        _TAGS[made] = tag
        return made

    return decorate


def is_variant(cls: type) -> bool:
    """Whether `variant` declared the class."""
    return cls in _TAGS


def encode(value: Any, as_type: Any = None) -> bytes:
    """Canonical bytes of a record; `as_type` names a union, list or scalar type when the value's class does not.

    Raises DecodeError when a field is out of its declared bound, TypeError when it is of another class: both are bugs
    of the caller, since values inside the node are typed already.
    """
    pack, _ = _codec_of(as_type if as_type is not None else type(value))
    packed: bytes = msgpack.packb(pack(value), use_bin_type=True)
    return packed


def decode(as_type: type[T], data: bytes, max_bytes: int = limits.MESSAGE_BYTES_MAX) -> T:
    """Parse canonical bytes into `as_type` (a record class; for unions use `decode_as`).

    Raises DecodeError for anything else: wrong shape, out of bounds, not shortest form, trailing bytes.
    """
    value: T = decode_as(as_type, data, max_bytes)
    return value


def decode_as(as_type: Any, data: bytes, max_bytes: int = limits.MESSAGE_BYTES_MAX) -> Any:
    """As `decode`, for unions, lists and scalar types, whose types mypy cannot pass as `type[T]`."""
    if len(data) > max_bytes:
        raise DecodeError(f"{len(data)} bytes exceed the limit of {max_bytes}")
    _, parse = _codec_of(as_type)
    try:
        value, end = parse(data, 0)
    except IndexError as error:
        raise DecodeError(f"ends early, after {len(data)} bytes") from error
    if end != len(data):
        raise DecodeError(f"{len(data) - end} bytes too many")
    return value


def _codec_of(as_type: Any) -> tuple[_Pack, _Parse]:
    found = _CODECS.get(as_type)
    if found is None:
        found = _CODECS[as_type] = _build(as_type)
    return found


def _build(as_type: Any) -> tuple[_Pack, _Parse]:
    origin = typing.get_origin(as_type)
    if origin is Annotated:
        base, *marks = typing.get_args(as_type)
        return _build_bounded(base, marks[-1])
    if origin in (typing.Union, types.UnionType):
        return _build_union(typing.get_args(as_type))
    if as_type is bool:
        return pack_bool, parse_bool
    if isinstance(as_type, type) and dataclasses.is_dataclass(as_type):
        return _build_record(as_type)
    raise TypeError(f"{as_type!r} has no canonical encoding: annotate its bound")


def _build_bounded(base: Any, mark: Any) -> tuple[_Pack, _Parse]:
    origin = typing.get_origin(base)
    if base is int and isinstance(mark, UInt):
        return make_uint_codec(mark.bits)
    if base is int and isinstance(mark, Int):
        return make_int_codec(mark.bits)
    if base is bytes and isinstance(mark, Fixed | Max):
        return make_bytes_codec(mark.length, exact=isinstance(mark, Fixed))
    if base is str and isinstance(mark, Max):
        return make_text_codec(mark.length)
    if origin is tuple and isinstance(mark, Max):
        item, dots = typing.get_args(base)
        assert dots is Ellipsis, "lists are declared as tuple[X, ...]"
        return _list_codec(item, mark.length)
    raise TypeError(f"{base!r} with {mark!r} has no canonical encoding")


def _list_codec(item: Any, most: int) -> tuple[_Pack, _Parse]:
    assert most <= limits.LIST_ITEMS_MAX, "no list may be declared longer than the protocol allows"
    pack_item, parse_item = _codec_of(item)

    def check(count: int) -> None:
        if count > most:
            raise DecodeError(f"expected at most {most} items, got {count}")

    def pack(value: Any) -> list[Any]:
        if type(value) is not tuple:
            raise DecodeError(f"expected a tuple, got {type(value).__name__}")
        check(len(value))
        return [pack_item(one) for one in value]

    def parse(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        count, at = parse_head(data, at, LIST_HEADS, "a list")
        check(count)
        items: list[Any] = []
        for _ in range(count):
            one, at = parse_item(data, at)
            items.append(one)
        return tuple(items), at

    return pack, parse


def _build_record(cls: type) -> tuple[_Pack, _Parse]:
    fields = _get_fields(cls)
    head: bytes = msgpack.Packer().pack_array_header(len(fields))
    size = len(head)
    parse_fields = build_parse(cls, fields)

    def parse(data: bytes, at: int) -> tuple[Any, int]:
        if data[at : at + size] != head:
            raise DecodeError(f"{cls.__name__} is a list of {len(fields)} fields")
        return parse_fields(data, at + size)

    return build_pack(cls, fields, None), parse


def _get_fields(cls: type) -> list[Field]:
    """The fields of a record in declared order, with the facts that generated code may inline."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        pack, parse = _codec_of(hint)
        base, mark = (*typing.get_args(hint)[:1], *typing.get_args(hint)[-1:]) if _is_annotated(hint) else (None, None)
        top = 1 << mark.bits if base is int and isinstance(mark, UInt) else None
        length = mark.length if base is bytes and isinstance(mark, Fixed) else None
        found.append(Field(field.name, pack, parse, top, length))
    return found


def _is_annotated(hint: Any) -> bool:
    return typing.get_origin(hint) is Annotated


def _build_union(members: tuple[Any, ...]) -> tuple[_Pack, _Parse]:
    """A union of variants is [tag, *fields]; `X | None` is nil or X."""
    classes = [one for one in members if one is not type(None)]
    optional = len(classes) != len(members)
    if optional and len(classes) == 1 and classes[0] not in _TAGS:
        return _build_optional(classes[0])
    packs: dict[type, _Pack] = {}
    by_tag: dict[int, tuple[type, int, _Parse]] = {}
    for one in classes:
        fields = _get_fields(one)
        packs[one] = build_pack(one, fields, _TAGS[one])
        by_tag[_TAGS[one]] = (one, 1 + len(fields), build_parse(one, fields))
    assert len(by_tag) == len(classes), f"two members share a tag: {classes}"

    def pack(value: Any) -> Any:
        pack_member = packs.get(type(value))
        if pack_member is not None:
            return pack_member(value)
        if optional and value is None:
            return None
        raise TypeError(f"{type(value).__name__} is not a member of the union")

    def parse(data: bytes, at: int) -> tuple[Any, int]:
        if optional and data[at] == NIL:
            return None, at + 1
        found, at = parse_head(data, at, LIST_HEADS, "[tag, fields...]")
        tag, at = parse_head(data, at, UINT_HEADS, "a tag")
        member = by_tag.get(tag)
        if member is None:
            raise DecodeError(f"unknown tag {tag}")
        cls, count, parse_fields = member
        if found != count:
            raise DecodeError(f"{cls.__name__} is a list of a tag and {count - 1} fields, not of {found} items")
        return parse_fields(data, at)

    return pack, parse


def _build_optional(inner: Any) -> tuple[_Pack, _Parse]:
    pack_inner, parse_inner = _codec_of(inner)

    def pack(value: Any) -> Any:
        return None if value is None else pack_inner(value)

    def parse(data: bytes, at: int) -> tuple[Any, int]:
        return (None, at + 1) if data[at] == NIL else parse_inner(data, at)

    return pack, parse
