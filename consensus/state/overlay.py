"""A stack of uncommitted writes over a state; each layer can be undone alone. Knows no types and no modules."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from itertools import islice

from consensus.state.reader import StateReader

_SORTED_ANEW = 16
"""New keys are sorted together with the known ones if they are more than a sixteenth of them, else inserted singly."""

Change = tuple[bytes, bytes | None]
"""A key and its new value; None deletes it."""


class Overlay:
    """Reads through to `reader`; writes stay here until `changes` is taken. The bottom layer is the block's own.

    Values read from below are remembered for the overlay's life: the reader must not change meanwhile.
    """

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader
        self._read: dict[bytes, bytes | None] = {}
        self._layers: list[dict[bytes, bytes | None]] = [{}]
        self._ordered: list[bytes] = []
        self._unordered: list[bytes] = []

    @property
    def depth(self) -> int:
        """Open layers above the bottom one."""
        return len(self._layers) - 1

    def get(self, key: bytes) -> bytes | None:
        """The newest value written under `key`, else the reader's."""
        for layer in reversed(self._layers):
            if key in layer:
                return layer[key]
        if key not in self._read:
            self._read[key] = self._reader.get(key)
        return self._read[key]

    def put(self, key: bytes, value: bytes) -> None:
        """Write into the topmost layer."""
        self._layers[-1][key] = value
        self._unordered.append(key)

    def delete(self, key: bytes) -> None:
        """Delete in the topmost layer; deleting what is absent is no error."""
        self._layers[-1][key] = None
        self._unordered.append(key)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every item under `prefix` in key order, as of this call: writing while iterating is allowed.

        The cost depends on the items under the prefix only, not on the block's other writes: otherwise the last calls
        of a full block would cost more than their weight.
        """
        self._order_keys()
        merged: dict[bytes, bytes | None] = dict(self._reader.iterate(prefix))
        for at in range(bisect.bisect_left(self._ordered, prefix), len(self._ordered)):
            key = self._ordered[at]
            if not key.startswith(prefix):
                break
            for layer in reversed(self._layers):
                if key in layer:
                    merged[key] = layer[key]
                    break
        return iter([(key, value) for key in sorted(merged) if (value := merged[key]) is not None])

    def list_first(self, prefix: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """The first `count` items under `prefix`, in key order. However many there are, no more than those are read,
        besides as many as were written here."""
        self._order_keys()
        own: dict[bytes, bytes | None] = {}
        for at in range(bisect.bisect_left(self._ordered, prefix), len(self._ordered)):
            key = self._ordered[at]
            if not key.startswith(prefix):
                break
            for layer in reversed(self._layers):
                if key in layer:
                    own[key] = layer[key]
                    break
        merged: dict[bytes, bytes | None] = dict(islice(self._reader.iterate(prefix), count + len(own)))
        merged.update(own)
        return [(key, value) for key in sorted(merged) if (value := merged[key]) is not None][:count]

    def _order_keys(self) -> None:
        """Sorts the keys written since the last call among the others. Keys of undone layers stay and are skipped."""
        ordered, new = self._ordered, self._unordered
        if len(new) * _SORTED_ANEW > len(ordered):
            self._ordered = sorted(dict.fromkeys((*ordered, *new)))
        else:
            for key in new:
                at = bisect.bisect_left(ordered, key)
                if at == len(ordered) or ordered[at] != key:
                    ordered.insert(at, key)
        new.clear()

    def begin(self) -> None:
        """Open a layer."""
        self._layers.append({})

    def commit(self) -> None:
        """Merge the topmost layer into the one below."""
        assert self.depth, "commit without begin"
        top = self._layers.pop()
        self._layers[-1].update(top)

    def rollback(self) -> None:
        """Forget the topmost layer."""
        assert self.depth, "rollback without begin"
        self._layers.pop()

    def changes(self) -> tuple[Change, ...]:
        """The changes against the reader, sorted by key. Every layer above the bottom one must be closed."""
        assert not self.depth, "changes are taken when all layers are closed"
        bottom = self._layers[0]
        for key in bottom.keys() - self._read.keys():
            self._read[key] = self._reader.get(key)
        return tuple((key, bottom[key]) for key in sorted(bottom) if bottom[key] != self._read[key])

    def get_previous(self, changes: tuple[Change, ...]) -> tuple[bytes | None, ...]:
        """The reader's value under each key of `changes`, in the same order, from memory: nothing is read again."""
        return tuple(self._read[key] for key, _ in changes)
