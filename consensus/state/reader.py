"""The runtime's read access to a state: a flat, ordered key/value map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol


class StateReader(Protocol):
    """The state after some block. Keys and values are byte strings; an absent key reads as None."""

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`."""
        ...

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) whose key starts with `prefix`, in ascending byte order of the keys."""
        ...


class DictState:
    """A state held in a dict: for genesis, tests and simulations."""

    def __init__(self, items: Mapping[bytes, bytes] | None = None) -> None:
        self.items: dict[bytes, bytes] = dict(items or {})

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`."""
        return self.items.get(key)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every item under `prefix`, ordered."""
        for key in sorted(key for key in self.items if key.startswith(prefix)):
            yield key, self.items[key]

    def apply(self, changes: tuple[tuple[bytes, bytes | None], ...]) -> None:
        """Write a block's changes; None deletes."""
        for key, value in changes:
            if value is None:
                self.items.pop(key, None)
            else:
                self.items[key] = value
