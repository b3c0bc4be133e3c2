"""Canonical encoding: a record is a MessagePack array of its fields in declared order. The only importer of msgpack.

Rules (normative, see encoding.md): shortest integer form, no floats, no maps, no extension types, bounded depth and
lengths, no trailing bytes. `decode` re-encodes what it read and rejects any difference, so one value has one encoding.
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
from proto_specs.errors import DecodeError

T = TypeVar("T")


@dataclass(frozen=True)
class UInt:
    """An unsigned integer of at most `bits` bits."""

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
Bytes32 = Annotated[bytes, Fixed(32)]
Bytes64 = Annotated[bytes, Fixed(64)]

# A (pack, unpack) pair: value -> plain msgpack value, and back with every bound checked.
_Pack = Callable[[Any], Any]
_Unpack = Callable[[Any], Any]
_CODECS: dict[Any, tuple[_Pack, _Unpack]] = {}
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


def get_tag(cls: type) -> int:
    """The union tag of a class declared with `variant`."""
    return _TAGS[cls]


def is_variant(cls: type) -> bool:
    """Whether a class was declared with `variant`."""
    return cls in _TAGS


def encode(value: Any, as_type: Any = None) -> bytes:
    """Canonical bytes of a record; `as_type` names a union, list or scalar type where the value's class does not.

    Raises DecodeError when a field is out of its declared bound, TypeError when it is of another class: both are
    bugs of the caller, since values inside the node are typed already.
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
    pack, unpack = _codec_of(as_type)
    try:
        raw = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_map_len=0,
            max_ext_len=0,
            max_array_len=limits.LIST_ITEMS_MAX,
            max_bin_len=max_bytes,
            max_str_len=max_bytes,
        )
        value = unpack(raw)
        again = msgpack.packb(pack(value), use_bin_type=True)
    except DecodeError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"not canonical: {type(error).__name__}: {str(error)[:200]}") from error
    if again != data:
        raise DecodeError("not canonical: re-encoding gives other bytes")
    return value


def _codec_of(as_type: Any) -> tuple[_Pack, _Unpack]:
    found = _CODECS.get(as_type)
    if found is None:
        found = _CODECS[as_type] = _build(as_type)
    return found


def _build(as_type: Any) -> tuple[_Pack, _Unpack]:
    origin = typing.get_origin(as_type)
    if origin is Annotated:
        base, *marks = typing.get_args(as_type)
        return _build_bounded(base, marks[-1])
    if origin in (typing.Union, types.UnionType):
        return _build_union(typing.get_args(as_type))
    if as_type is bool:
        return _check_bool, _check_bool
    if isinstance(as_type, type) and dataclasses.is_dataclass(as_type):
        return _build_record(as_type)
    raise TypeError(f"{as_type!r} has no canonical encoding: annotate its bound")


def _check_bool(value: Any) -> bool:
    if value is not True and value is not False:
        raise DecodeError(f"expected a boolean, got {type(value).__name__}")
    return value


def _build_bounded(base: Any, mark: Any) -> tuple[_Pack, _Unpack]:
    origin = typing.get_origin(base)
    if base is int and isinstance(mark, UInt):
        return _uint_codec(mark.bits)
    if base is bytes and isinstance(mark, Fixed | Max):
        return _bytes_codec(mark)
    if base is str and isinstance(mark, Max):
        return _text_codec(mark.length)
    if origin is tuple and isinstance(mark, Max):
        item, dots = typing.get_args(base)
        assert dots is Ellipsis, "lists are declared as tuple[X, ...]"
        return _list_codec(item, mark.length)
    raise TypeError(f"{base!r} with {mark!r} has no canonical encoding")


def _uint_codec(bits: int) -> tuple[_Pack, _Unpack]:
    top = 1 << bits

    def check(value: Any) -> int:
        """Members of an IntEnum are written as their number and read back as plain integers."""
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < top:
            raise DecodeError(f"expected an unsigned {bits}-bit integer, got {value!r:.60}")
        return int(value)

    return check, check


def _bytes_codec(mark: Fixed | Max) -> tuple[_Pack, _Unpack]:
    exact = isinstance(mark, Fixed)

    def check(value: Any) -> bytes:
        if type(value) is not bytes:
            raise DecodeError(f"expected bytes, got {type(value).__name__}")
        if (exact and len(value) != mark.length) or len(value) > mark.length:
            raise DecodeError(f"expected {'' if exact else 'at most '}{mark.length} bytes, got {len(value)}")
        return value

    return check, check


def _text_codec(length: int) -> tuple[_Pack, _Unpack]:
    def check(value: Any) -> str:
        if type(value) is not str:
            raise DecodeError(f"expected text, got {type(value).__name__}")
        if len(value.encode()) > length:
            raise DecodeError(f"expected at most {length} bytes of text, got {len(value.encode())}")
        return value

    return check, check


def _list_codec(item: Any, length: int) -> tuple[_Pack, _Unpack]:
    assert length <= limits.LIST_ITEMS_MAX, "no list may be declared longer than the decoder allows"
    pack_item, unpack_item = _codec_of(item)

    def check(value: Any, kind: type[list[Any]] | type[tuple[Any, ...]]) -> None:
        if type(value) is not kind:
            raise DecodeError(f"expected a list, got {type(value).__name__}")
        if len(value) > length:
            raise DecodeError(f"expected at most {length} items, got {len(value)}")

    def pack(value: Any) -> list[Any]:
        check(value, tuple)
        return [pack_item(one) for one in value]

    def unpack(raw: Any) -> tuple[Any, ...]:
        check(raw, list)
        return tuple(unpack_item(one) for one in raw)

    return pack, unpack


def _build_record(cls: type) -> tuple[_Pack, _Unpack]:
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [field.name for field in dataclasses.fields(cls)]
    codecs = [_codec_of(hints[name]) for name in names]
    pairs = list(zip(names, (pack for pack, _ in codecs), strict=True))
    unpacks = [unpack for _, unpack in codecs]
    count = len(names)

    def pack(value: Any) -> list[Any]:
        if type(value) is not cls:
            raise TypeError(f"expected {cls.__name__}, got {type(value).__name__}")
        return [pack_field(getattr(value, name)) for name, pack_field in pairs]

    def unpack(raw: Any) -> Any:
        if type(raw) is not list or len(raw) != count:
            raise DecodeError(f"{cls.__name__} is a list of {count} fields")
        return cls(*(unpack_field(one) for unpack_field, one in zip(unpacks, raw, strict=True)))

    return pack, unpack


def _build_union(members: tuple[Any, ...]) -> tuple[_Pack, _Unpack]:
    """A union of variants is [tag, *fields]; `X | None` is nil or X."""
    classes = [one for one in members if one is not type(None)]
    optional = len(classes) != len(members)
    if optional and len(classes) == 1 and classes[0] not in _TAGS:
        return _build_optional(classes[0])
    by_tag = {_TAGS[one]: one for one in classes}
    assert len(by_tag) == len(classes), f"two members share a tag: {classes}"
    codecs = {one: _codec_of(one) for one in classes}

    def pack(value: Any) -> Any:
        if optional and value is None:
            return None
        if type(value) not in codecs:
            raise TypeError(f"{type(value).__name__} is not a member of the union")
        return [_TAGS[type(value)], *codecs[type(value)][0](value)]

    def unpack(raw: Any) -> Any:
        if optional and raw is None:
            return None
        if type(raw) is not list or not raw or type(raw[0]) is not int:
            raise DecodeError("expected [tag, fields...]")
        cls = by_tag.get(raw[0])
        if cls is None:
            raise DecodeError(f"unknown tag {raw[0]}")
        return codecs[cls][1](raw[1:])

    return pack, unpack


def _build_optional(inner: Any) -> tuple[_Pack, _Unpack]:
    pack_inner, unpack_inner = _codec_of(inner)

    def pack(value: Any) -> Any:
        return None if value is None else pack_inner(value)

    def unpack(raw: Any) -> Any:
        return None if raw is None else unpack_inner(raw)

    return pack, unpack
