"""Typed places in the state: single values, maps and sets under a prefix, in canonical encoding. Knows no module.

A key is `name ":" part...`: the name says whose it is (`balances.account`), the parts are fixed-length (byte strings
as they are, integers big-endian), so keys of one map sort by their parts and no map can reach into another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar, cast, get_args

from consensus.state.reader import StateReader
from proto_specs.codec import Fixed, UInt, decode_as, encode

V = TypeVar("V")
KeyPart = int | bytes

_VALUE_BYTES_MAX = 1 << 20
_DECODED_MAX = 64


class StateWriter(StateReader, Protocol):
    """A state that can be written: an overlay, or the genesis builder."""

    def put(self, key: bytes, value: bytes) -> None:
        """Write `value` under `key`."""
        ...

    def delete(self, key: bytes) -> None:
        """Delete `key`; absent is no error."""
        ...

    def list_first(self, prefix: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """The first items under `prefix`, at most `count`, without reading the others."""
        ...


class StorageValue(Generic[V]):
    """A single value. Keeps the last decoded one, since parameters and sets are read every block and rarely change."""

    def __init__(self, name: str, value_type: Any, default: V | None = None) -> None:
        self.key = _prefix(name)
        self._type = value_type
        self._default = default
        self._decoded: dict[bytes, V] = {}

    def read(self, state: StateReader) -> V:
        """The stored value, or the default. An absent value without a default is a broken genesis, so it asserts."""
        raw = state.get(self.key)
        if raw is None:
            assert self._default is not None, f"{self.key!r} is set at genesis"
            return self._default
        found = self._decoded.get(raw)
        if found is None:
            if len(self._decoded) >= _DECODED_MAX:
                self._decoded.clear()
            found = self._decoded[raw] = cast(V, decode_as(self._type, raw, _VALUE_BYTES_MAX))
        return found

    def write(self, state: StateWriter, value: V) -> None:
        """Set the value."""
        state.put(self.key, encode(value, self._type))


class _Keyed:
    """What maps and sets share: a prefix and fixed-length key parts."""

    def __init__(self, name: str, key_types: tuple[Any, ...]) -> None:
        self.prefix = _prefix(name)
        self._parts = tuple(_part_length(one) for one in key_types)

    def key(self, *parts: KeyPart) -> bytes:
        """The full key of `parts`; fewer parts than declared give a prefix to iterate under."""
        encoded = self.prefix
        for part, (length, is_integer) in zip(parts, self._parts, strict=False):
            if is_integer:
                assert isinstance(part, int)
                encoded += part.to_bytes(length, "big")
            else:
                assert isinstance(part, bytes)
                assert len(part) == length, f"key part of {len(part)} bytes where {length} are declared"
                encoded += part
        return encoded

    def list_first(self, state: StateWriter, count: int, *parts: KeyPart) -> list[tuple[Any, ...]]:
        """The first key parts under the leading `parts`, at most `count`: for work under a budget."""
        return [self._split(key) for key, _ in state.list_first(self.key(*parts), count)]

    def _split(self, key: bytes) -> tuple[Any, ...]:
        at, parts = len(self.prefix), []
        for length, is_integer in self._parts:
            part = key[at : at + length]
            parts.append(int.from_bytes(part, "big") if is_integer else part)
            at += length
        assert at == len(key), "a key of this map"
        return tuple(parts)


class StorageMap(_Keyed, Generic[V]):
    """Values by key parts."""

    def __init__(self, name: str, key_types: tuple[Any, ...], value_type: Any) -> None:
        super().__init__(name, key_types)
        self._type = value_type

    def read(self, state: StateReader, *parts: KeyPart) -> V | None:
        """The value under all key parts, or None."""
        raw = state.get(self.key(*parts))
        return None if raw is None else cast(V, decode_as(self._type, raw, _VALUE_BYTES_MAX))

    def write(self, state: StateWriter, *parts_and_value: Any) -> None:
        """Set the value: `write(state, part..., value)`."""
        *parts, value = parts_and_value
        assert len(parts) == len(self._parts), "every key part is given"
        state.put(self.key(*parts), encode(value, self._type))

    def delete(self, state: StateWriter, *parts: KeyPart) -> None:
        """Remove the value."""
        state.delete(self.key(*parts))

    def iterate(self, state: StateReader, *parts: KeyPart) -> Iterator[tuple[tuple[Any, ...], V]]:
        """Every (key parts, value) under the leading `parts`, in key order."""
        for key, raw in state.iterate(self.key(*parts)):
            yield self._split(key), cast(V, decode_as(self._type, raw, _VALUE_BYTES_MAX))


class StorageSet(_Keyed):
    """A set of key parts: the indexes behind lists and queues."""

    def contains(self, state: StateReader, *parts: KeyPart) -> bool:
        """Whether the set holds `parts`."""
        return state.get(self.key(*parts)) is not None

    def add(self, state: StateWriter, *parts: KeyPart) -> None:
        """Put `parts` in."""
        assert len(parts) == len(self._parts), "every key part is given"
        state.put(self.key(*parts), b"")

    def remove(self, state: StateWriter, *parts: KeyPart) -> None:
        """Take `parts` out."""
        state.delete(self.key(*parts))

    def iterate(self, state: StateReader, *parts: KeyPart) -> Iterator[tuple[Any, ...]]:
        """Every member under the leading `parts`, in key order."""
        for key, _ in state.iterate(self.key(*parts)):
            yield self._split(key)


def _prefix(name: str) -> bytes:
    assert ":" not in name, "the colon ends the name, so that no prefix starts another"
    return name.encode() + b":"


def _part_length(key_type: Any) -> tuple[int, bool]:
    """(bytes, is an integer) of a key part's type: Fixed bytes or UInt."""
    marks = get_args(key_type)[1:]
    for mark in marks:
        if isinstance(mark, Fixed):
            return mark.length, False
        if isinstance(mark, UInt):
            return mark.bits // 8, True
    raise TypeError(f"{key_type!r} has no fixed length")
