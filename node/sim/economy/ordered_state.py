"""A state in memory that finds the items under a prefix without a walk over all of them. Knows no modules."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping

from consensus.state.overlay import Change

_SEPARATOR = b":"


class OrderedState:
    """Fulfils `StateReader`. Keys are kept in order for each place (`name:`) of the runtime by itself."""

    def __init__(self, items: Mapping[bytes, bytes]) -> None:
        self._items = dict(items)
        self._ordered: dict[bytes, list[bytes]] = {}
        self._unordered: dict[bytes, list[bytes]] = {}
        for key in self._items:
            self._unordered.setdefault(_get_place(key), []).append(key)

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`."""
        return self._items.get(key)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every item under `prefix`, which names a place, ordered."""
        keys = self._order(_get_place(prefix))
        for at in range(bisect.bisect_left(keys, prefix), len(keys)):
            key = keys[at]
            if not key.startswith(prefix):
                return
            yield key, self._items[key]

    def apply(self, changes: tuple[Change, ...]) -> None:
        """Write a block's changes; None deletes."""
        gone: dict[bytes, list[bytes]] = {}
        for key, value in changes:
            if value is None:
                if self._items.pop(key, None) is not None:
                    gone.setdefault(_get_place(key), []).append(key)
                continue
            if key not in self._items:
                self._unordered.setdefault(_get_place(key), []).append(key)
            self._items[key] = value
        for place, keys in gone.items():
            lost = set(keys)
            self._ordered[place] = [key for key in self._order(place) if key not in lost]

    def _order(self, place: bytes) -> list[bytes]:
        """The keys of a place. New ones are merged in when somebody asks: most places are never walked."""
        ordered = self._ordered.setdefault(place, [])
        new = self._unordered.pop(place, None)
        if new:
            ordered.extend(new)
            ordered.sort()
        return ordered


def _get_place(key: bytes) -> bytes:
    return key[: key.index(_SEPARATOR) + 1]
