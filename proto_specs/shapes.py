"""What a field may be declared as: the closed set of shapes that forms of records other than bytes are made from."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any

from proto_specs.codec import Fixed, Int, Max, UInt
from proto_specs.types.common import Kind


@dataclass(frozen=True, slots=True)
class BooleanShape:
    """True or false."""


@dataclass(frozen=True, slots=True)
class IntegerShape:
    """An integer of `bits` bits, unsigned unless `is_signed`; None: without a declared bound."""

    bits: int | None
    is_signed: bool = False


@dataclass(frozen=True, slots=True)
class TextShape:
    """Text of at most `length_max` bytes of UTF-8; None: without a declared bound."""

    length_max: int | None


@dataclass(frozen=True, slots=True)
class AccountShape:
    """The 32 bytes of an account, which people read as an address."""


@dataclass(frozen=True, slots=True)
class BytesShape:
    """Bytes: exactly `length`, or at most `length_max`; None: without that bound."""

    length: int | None
    length_max: int | None


@dataclass(frozen=True, slots=True)
class ListShape:
    """A tuple of items of one declared type, at most `length_max` of them; None: without a declared bound."""

    item: Any
    length_max: int | None


@dataclass(frozen=True, slots=True)
class OptionalShape:
    """The declared type `inner`, or None."""

    inner: Any


@dataclass(frozen=True, slots=True)
class UnionShape:
    """One of several records, told apart by class; None as well if `is_optional`."""

    members: tuple[type, ...]
    is_optional: bool


@dataclass(frozen=True, slots=True)
class RecordShape:
    """A record: the declared type of each field by name, in order."""

    cls: type
    fields: dict[str, Any]


Shape = (
    BooleanShape
    | IntegerShape
    | TextShape
    | AccountShape
    | BytesShape
    | ListShape
    | OptionalShape
    | UnionShape
    | RecordShape
)


@cache
def get_shape(as_type: Any) -> Shape:
    """The shape of a declared type; what it holds is declared types again. Raises TypeError for a type of no shape."""
    base: Any = as_type
    marks: tuple[Any, ...] = ()
    if typing.get_origin(as_type) is typing.Annotated:
        base, *rest = typing.get_args(as_type)
        marks = tuple(rest)
    origin = typing.get_origin(base)
    if origin in (typing.Union, types.UnionType):
        return _get_union_shape(typing.get_args(base))
    length_max = next((one.length for one in marks if isinstance(one, Max)), None)
    if origin is tuple:
        return ListShape(typing.get_args(base)[0], length_max)
    if base is bytes:
        if Kind("account") in marks:
            return AccountShape()
        return BytesShape(next((one.length for one in marks if isinstance(one, Fixed)), None), length_max)
    if base is bool:
        return BooleanShape()
    if base is int:
        signed = next((one.bits for one in marks if isinstance(one, Int)), None)
        if signed is not None:
            return IntegerShape(signed, is_signed=True)
        return IntegerShape(next((one.bits for one in marks if isinstance(one, UInt)), None))
    if base is str:
        return TextShape(length_max)
    if isinstance(base, type) and dataclasses.is_dataclass(base):
        hints = typing.get_type_hints(base, include_extras=True)
        return RecordShape(base, {one.name: hints[one.name] for one in dataclasses.fields(base)})
    raise TypeError(f"{as_type!r} has no JSON form")


def _get_union_shape(members: tuple[Any, ...]) -> OptionalShape | UnionShape:
    classes = tuple(one for one in members if one is not type(None))
    if len(classes) == 1:
        return OptionalShape(classes[0])
    return UnionShape(classes, len(classes) < len(members))
