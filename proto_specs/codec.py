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

# First byte -> (bytes of the number that follows, the least number allowed in this form). When no bytes follow, the
# first byte holds the number itself.
_Heads = dict[int, tuple[int, int]]
_UINT_HEADS: _Heads = {
    **{number: (0, number) for number in range(1 << 7)},
    **{0xCC: (1, 1 << 7), 0xCD: (2, 1 << 8), 0xCE: (4, 1 << 16), 0xCF: (8, 1 << 32)},
}
_BYTES_HEADS: _Heads = {0xC4: (1, 0), 0xC5: (2, 1 << 8), 0xC6: (4, 1 << 16)}
_TEXT_HEADS: _Heads = {
    **{0xA0 + length: (0, length) for length in range(1 << 5)},
    **{0xD9: (1, 1 << 5), 0xDA: (2, 1 << 8), 0xDB: (4, 1 << 16)},
}
_LIST_HEADS: _Heads = {
    **{0x90 + count: (0, count) for count in range(1 << 4)},
    **{0xDC: (2, 1 << 4), 0xDD: (4, 1 << 16)},
}
_NIL, _FALSE, _TRUE = 0xC0, 0xC2, 0xC3
_NEGATIVE_FIX = 0xE0
"""Bytes from here on are -32 to -1."""
_NEGATIVE_HEADS: _Heads = {
    0xD0: (1, -(1 << 5)),
    0xD1: (2, -(1 << 7)),
    0xD2: (4, -(1 << 15)),
    0xD3: (8, -(1 << 31)),
}
"""First byte -> (bytes of the signed number that follows, the bound it is below in this form)."""


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


def _parse_head(data: bytes, at: int, heads: _Heads, what: str) -> tuple[int, int]:
    """The number in or behind the byte at `at`: an integer's value, or a length."""
    found = heads.get(data[at])
    if found is None:
        raise DecodeError(f"expected {what} at byte {at}, got 0x{data[at]:02x}")
    size, least = found
    if not size:
        return least, at + 1
    end = at + 1 + size
    if end > len(data):
        raise DecodeError(f"ends early, after {len(data)} bytes")
    number = int.from_bytes(data[at + 1 : end], "big")
    if number < least:
        raise DecodeError(f"{number} at byte {at} is not in its shortest form")
    return number, end


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
        return _pack_bool, _parse_bool
    if isinstance(as_type, type) and dataclasses.is_dataclass(as_type):
        return _build_record(as_type)
    raise TypeError(f"{as_type!r} has no canonical encoding: annotate its bound")


def _pack_bool(value: Any) -> bool:
    if value is not True and value is not False:
        raise DecodeError(f"expected a boolean, got {type(value).__name__}")
    return value


def _parse_bool(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] not in (_FALSE, _TRUE):
        raise DecodeError(f"expected a boolean at byte {at}, got 0x{data[at]:02x}")
    return data[at] == _TRUE, at + 1


def _build_bounded(base: Any, mark: Any) -> tuple[_Pack, _Parse]:
    origin = typing.get_origin(base)
    if base is int and isinstance(mark, UInt):
        return _uint_codec(mark.bits)
    if base is int and isinstance(mark, Int):
        return _int_codec(mark.bits)
    if base is bytes and isinstance(mark, Fixed | Max):
        return _bytes_codec(mark)
    if base is str and isinstance(mark, Max):
        return _text_codec(mark.length)
    if origin is tuple and isinstance(mark, Max):
        item, dots = typing.get_args(base)
        assert dots is Ellipsis, "lists are declared as tuple[X, ...]"
        return _list_codec(item, mark.length)
    raise TypeError(f"{base!r} with {mark!r} has no canonical encoding")


def _uint_codec(bits: int) -> tuple[_Pack, _Parse]:
    top = 1 << bits

    def pack(value: Any) -> int:
        """Members of an IntEnum are encoded as their number and decoded as plain integers."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise DecodeError(f"expected an unsigned {bits}-bit integer, got {type(value).__name__}")
        if not 0 <= value < top:
            raise DecodeError(f"{int(value)} is no unsigned {bits}-bit integer")
        return int(value)

    def parse(data: bytes, at: int) -> tuple[int, int]:
        number, end = _parse_head(data, at, _UINT_HEADS, "an unsigned integer")
        if number >= top:
            raise DecodeError(f"{number} at byte {at} is no unsigned {bits}-bit integer")
        return number, end

    return pack, parse


def _int_codec(bits: int) -> tuple[_Pack, _Parse]:
    """Signed integers; those that are not negative are encoded as unsigned ones are."""
    top = 1 << (bits - 1)

    def check(value: int, where: str) -> int:
        if not -top <= value < top:
            raise DecodeError(f"{value}{where} is no signed {bits}-bit integer")
        return value

    def pack(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise DecodeError(f"expected a signed {bits}-bit integer, got {type(value).__name__}")
        return check(int(value), "")

    def parse(data: bytes, at: int) -> tuple[int, int]:
        head = data[at]
        if head >= _NEGATIVE_FIX:
            return check(head - 0x100, f" at byte {at}"), at + 1
        negative = _NEGATIVE_HEADS.get(head)
        if negative is None:
            number, end = _parse_head(data, at, _UINT_HEADS, "an integer")
            return check(number, f" at byte {at}"), end
        size, bound = negative
        end = at + 1 + size
        number = int.from_bytes(_slice(data, at + 1, end), "big", signed=True)
        if number >= bound:
            raise DecodeError(f"{number} at byte {at} is not in its shortest form")
        return check(number, f" at byte {at}"), end

    return pack, parse


def _bytes_codec(mark: Fixed | Max) -> tuple[_Pack, _Parse]:
    exact, most = isinstance(mark, Fixed), mark.length
    wanted = f"{'' if exact else 'at most '}{most} bytes"

    def check(length: int) -> None:
        if length > most or (exact and length != most):
            raise DecodeError(f"expected {wanted}, got {length}")

    def pack(value: Any) -> bytes:
        if type(value) is not bytes:
            raise DecodeError(f"expected bytes, got {type(value).__name__}")
        check(len(value))
        return value

    def parse(data: bytes, at: int) -> tuple[bytes, int]:
        length, start = _parse_head(data, at, _BYTES_HEADS, wanted)
        check(length)
        return _slice(data, start, start + length), start + length

    return pack, parse


def _text_codec(most: int) -> tuple[_Pack, _Parse]:
    def check(length: int) -> None:
        if length > most:
            raise DecodeError(f"expected at most {most} bytes of text, got {length}")

    def pack(value: Any) -> str:
        if type(value) is not str:
            raise DecodeError(f"expected text, got {type(value).__name__}")
        try:
            check(len(value.encode()))
        except UnicodeEncodeError as error:
            raise DecodeError(f"text has no UTF-8 form: {error}") from error
        return value

    def parse(data: bytes, at: int) -> tuple[str, int]:
        length, start = _parse_head(data, at, _TEXT_HEADS, "text")
        check(length)
        try:
            return _slice(data, start, start + length).decode(), start + length
        except UnicodeDecodeError as error:
            raise DecodeError(f"text at byte {at} is not UTF-8: {error.reason}") from error

    return pack, parse


def _slice(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise DecodeError(f"ends early, after {len(data)} bytes")
    return data[start:end]


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
        count, at = _parse_head(data, at, _LIST_HEADS, "a list")
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
        if optional and data[at] == _NIL:
            return None, at + 1
        found, at = _parse_head(data, at, _LIST_HEADS, "[tag, fields...]")
        tag, at = _parse_head(data, at, _UINT_HEADS, "a tag")
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
        return (None, at + 1) if data[at] == _NIL else parse_inner(data, at)

    return pack, parse
