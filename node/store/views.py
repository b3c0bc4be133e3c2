"""The state after one block, read from one moment of the database: at the head, or some blocks behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from consensus.runtime.staking.state import read_validators
from consensus.state.tree import StateProof, prove
from node.store.columns import Column
from node.store.database import DatabaseDamaged, Snapshot
from node.store.page_history import get_whole, is_patch, rebuild_page
from node.store.records import UNDO_BYTES_MAX, Head, Undo, encode_height
from proto_specs import limits
from proto_specs.codec import decode
from proto_specs.errors import DecodeError, MyelinError
from proto_specs.types.chain import Header

T = TypeVar("T")

HEIGHT_BYTES = 8
HEAD_NAME = b"head"
BASE_NAME = b"base"
OLDEST_STATE_NAME = b"oldest-state"
OLDEST_BODY_NAME = b"oldest-body"
INDEX_NAME = b"indexed-from"
"""The lowest height whose subjects are indexed, and all later ones. Absent: the index has a gap, or there is none."""


class StateUnavailable(MyelinError):
    """The state after block `height` is not kept here: `oldest` to `newest` are."""

    def __init__(self, height: int, oldest: int, newest: int) -> None:
        kept = f"this node keeps the state after blocks {oldest} to {newest}"
        if height > newest:
            super().__init__(f"block {height} is not there yet: {kept}")
        else:
            super().__init__(f"the state after block {height} is pruned: {kept}; an archive node has all of them")
        self.height = height
        self.oldest = oldest
        self.newest = newest


class StateView:
    """The head and its state at one moment: a `StateReader` with consistent answers."""

    def __init__(self, reader: Snapshot) -> None:
        self._reader = reader

    def get_head(self) -> Head:
        """The head as it was after this state's block. Raises DatabaseDamaged."""
        found = self._load(Head, Column.META, HEAD_NAME)
        if found is None:
            raise DatabaseDamaged(self._reader.advise("the head is missing"))
        return found

    def get_oldest_state(self) -> int:
        """The lowest height whose state can be read along with this one."""
        return self._load_number(OLDEST_STATE_NAME)

    def get(self, key: bytes) -> bytes | None:
        """StateReader: the value of a state key."""
        return self._reader.get(Column.STATE.value + key)

    def iterate(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """StateReader: (key, value) under `prefix`, from `start` on."""
        column = Column.STATE.value
        for key, value in self._reader.iterate(column + prefix, column + start):
            yield key[1:], value

    def read_page(self, path: bytes) -> bytes | None:
        """NodeReader of the state's commitment."""
        return self._reader.get(Column.TREE.value + path)

    def prove(self, key: bytes) -> StateProof:
        """Proof of a state key under this state's root."""
        return prove(self.read_page, key)

    def _load(
        self, as_type: type[T], column: Column, key: bytes, bytes_max: int = limits.MESSAGE_BYTES_MAX
    ) -> T | None:
        found = self._reader.get(column.value + key)
        if found is None:
            return None
        try:
            return decode(as_type, found, bytes_max)
        except DecodeError as error:
            detail = f"{column.name} {(column.value + key).hex()}: {error}"
            raise DatabaseDamaged(self._reader.advise(detail)) from error

    def _load_number(self, name: bytes) -> int:
        found = self._reader.get(Column.META.value + name)
        if found is None or len(found) != HEIGHT_BYTES:
            raise DatabaseDamaged(self._reader.advise(f"{name.decode()} is missing"))
        return int.from_bytes(found, "big")


class PastView(StateView):
    """The state after an earlier block: the head's without the changes of later blocks.

    A key's value is the one before the first later block that changed it. Rows of one key lie together because no
    state key starts another one (state.md) and page paths are above any height's first byte.
    """

    def __init__(self, reader: Snapshot, height: int) -> None:
        super().__init__(reader)
        self.height = height
        self._following = encode_height(height + 1)

    def get_head(self) -> Head:
        """See StateView; built from the next block's header and `Undo`, and from this state."""
        undo = self._load(Undo, Column.UNDO, self._following, UNDO_BYTES_MAX)
        child = self._load(Header, Column.HEADER, self._following)
        if undo is None or child is None:
            raise DatabaseDamaged(self._reader.advise(f"the way back to block {self.height} is missing"))
        validators = read_validators(self)
        return Head(
            height=self.height,
            block_hash=child.parent_hash,
            time_ms=undo.time_ms,
            state_root=undo.state_root,
            beacon=undo.beacon,
            validators=validators,
            deciders=validators if undo.deciders is None else undo.deciders,
            priorities=undo.priorities,
        )

    def get(self, key: bytes) -> bytes | None:
        """See StateView."""
        prefix = Column.STATE_WAS.value + key
        found = self._reader.find_first(prefix, prefix + self._following)
        if found is not None and len(found[0]) == len(prefix) + HEIGHT_BYTES:
            return found[1][1:] if found[1] else None
        return super().get(key)

    def iterate(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See StateView."""
        older = self._iterate_older(prefix, start)
        changed = next(older, None)
        for key, value in super().iterate(prefix, start):
            while changed is not None and changed[0] < key:
                if changed[1] is not None:
                    yield changed[0], changed[1]
                changed = next(older, None)
            if changed is not None and changed[0] == key:
                if changed[1] is not None:
                    yield key, changed[1]
                changed = next(older, None)
            else:
                yield key, value
        while changed is not None:
            if changed[1] is not None:
                yield changed[0], changed[1]
            changed = next(older, None)

    def read_page(self, path: bytes) -> bytes | None:
        """See StateView."""
        prefix = Column.PAGE_WAS.value + path
        patches: list[bytes] = []
        for row, was in self._reader.iterate(prefix, prefix + self._following):
            if len(row) != len(prefix) + HEIGHT_BYTES:
                break
            if not is_patch(was):
                return rebuild_page(get_whole(was), patches)
            patches.append(was)
        return rebuild_page(super().read_page(path), patches)

    def _iterate_older(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """(key, old value) of every key under `prefix` that changed since, in order."""
        column = Column.STATE_WAS.value
        done = None
        for row, was in self._reader.iterate(column + prefix, column + start):
            key, height = row[1:-HEIGHT_BYTES], row[-HEIGHT_BYTES:]
            if key == done or height < self._following:
                continue
            done = key
            yield key, was[1:] if was else None
