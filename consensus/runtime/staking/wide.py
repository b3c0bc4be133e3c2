"""Maps of records with integers wider than the codec's 64 bits: on chain such a field is big-endian Fixed bytes."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from consensus.state.reader import StateReader
from consensus.state.storage import KeyPart, StateWriter, StorageMap
from proto_specs.codec import Fixed

V = TypeVar("V")


@dataclass(frozen=True)
class WideUInt:
    """An unsigned integer stored as exactly `length` bytes, big-endian."""

    length: int


U128 = Annotated[int, WideUInt(16)]
U256 = Annotated[int, WideUInt(32)]


class WideMap(Generic[V]):
    """A `StorageMap` whose values are frozen dataclasses of plain, `U128` and `U256` integers."""

    def __init__(self, name: str, key_types: tuple[Any, ...], value_type: type[V]) -> None:
        self._type = value_type
        self._record, self._lengths = _build_record(value_type)
        self._map: StorageMap[Any] = StorageMap(name, key_types, self._record)

    def read(self, state: StateReader, *parts: KeyPart) -> V | None:
        """The value under all key parts, or None."""
        found = self._map.read(state, *parts)
        return None if found is None else self._narrow(found)

    def write(self, state: StateWriter, *parts_and_value: Any) -> None:
        """Set the value: `write(state, part..., value)`."""
        *parts, value = parts_and_value
        fields = (
            getattr(value, name).to_bytes(length, "big") if length else getattr(value, name)
            for name, length in self._lengths.items()
        )
        self._map.write(state, *parts, self._record(*fields))

    def delete(self, state: StateWriter, *parts: KeyPart) -> None:
        """Remove the value."""
        self._map.delete(state, *parts)

    def iterate(self, state: StateReader, *parts: KeyPart) -> Iterator[tuple[tuple[Any, ...], V]]:
        """Every (key parts, value) under the leading `parts`, in key order."""
        for key, found in self._map.iterate(state, *parts):
            yield key, self._narrow(found)

    def _narrow(self, found: Any) -> V:
        fields = (
            int.from_bytes(getattr(found, name), "big") if length else getattr(found, name)
            for name, length in self._lengths.items()
        )
        return self._type(*fields)


def _build_record(value_type: type) -> tuple[Any, dict[str, int]]:
    """The dataclass's twin for the codec, and the bytes of each wide field by name (0: not wide)."""
    hints = typing.get_type_hints(value_type, include_extras=True)
    lengths: dict[str, int] = {}
    fields: list[tuple[str, Any]] = []
    for one in dataclasses.fields(value_type):
        marks = typing.get_args(hints[one.name])[1:]
        length = next((mark.length for mark in marks if isinstance(mark, WideUInt)), 0)
        lengths[one.name] = length
        fields.append((one.name, Annotated[bytes, Fixed(length)] if length else hints[one.name]))
    return dataclasses.make_dataclass(value_type.__name__, fields, frozen=True, slots=True), lengths
