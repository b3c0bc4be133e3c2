"""The rows of history that a block writes and prunes. The block brings the old values and pages: nothing is read.

A state key's row (`STATE_WAS`) holds one byte and the value before the block, or nothing where there was none; a
page's row (`PAGE_WAS`) is page_history.py's. Both are keyed by key, then height.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from consensus.runtime.inference.state import params as inference_params
from consensus.runtime.staking.state import read_params as read_staking_params
from consensus.state.reader import StateReader
from node.store.columns import Column
from node.store.database import DatabaseDamaged, Snapshot
from node.store.page_history import encode_before
from node.store.records import (
    RECEIPTS_BYTES_MAX,
    UNDO_BYTES_MAX,
    BlockReceipts,
    FinalizedBlock,
    Head,
    Undo,
    encode_height,
    pack_keys,
    pack_paths,
)
from node.store.retention import BODY_BLOCKS_MIN, Retention
from node.store.subject_index import make_rows
from node.store.views import INDEX_NAME, OLDEST_BODY_NAME, OLDEST_STATE_NAME
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError
from proto_specs.hashing import HASH_BYTES
from proto_specs.types.chain import Block

Row = tuple[bytes, bytes | None]

PRUNED_BLOCKS_MAX = 8
PRUNED_ROWS_MAX = 20_000
"""The most rows that one block prunes, or one block's worth if that is more."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a block prunes: rows to write, their number, and the oldest heights that remain."""

    rows: list[Row]
    count: int
    oldest_state: int
    oldest_body: int


def make_history(before: Head, done: FinalizedBlock) -> Iterator[Row]:
    """The rows that lead back from the state after a block to the one before it."""
    suffix = encode_height(done.head.height)
    executed, tree = done.executed, done.tree
    column = Column.STATE_WAS.value
    keys = []
    for (key, _), was in zip(executed.changes, executed.previous, strict=True):
        keys.append(key)
        yield column + key + suffix, b"" if was is None else b"\x01" + was
    column = Column.PAGE_WAS.value
    reads = tree.node_reads
    for path, page in tree.node_writes.items():
        yield column + path + suffix, encode_before(path, done.head.height, reads.get(path), page)
    undo = Undo(
        time_ms=before.time_ms,
        state_root=before.state_root,
        beacon=before.beacon,
        deciders=None if before.deciders == before.validators else before.deciders,
        priorities=before.priorities,
        keys=pack_keys(keys),
        paths=pack_paths(list(tree.node_writes)),
    )
    yield Column.UNDO.value + suffix, encode(undo)


def compute_body_floor(state: StateReader) -> int:
    """How many newest bodies are always kept: as long as a transaction, an offence or a request may be queried."""
    offence = read_staking_params(state).evidence_blocks
    return max(BODY_BLOCKS_MIN, offence, inference_params.read(state).retention_blocks)


def prune(
    reader: Snapshot, height: int, retention: Retention, body_floor: int, oldest_state: int, oldest_body: int
) -> Pruned:
    """What may be pruned once the block at `height` is the head: a bounded part of it all. Raises DatabaseDamaged."""
    rows: list[Row] = []
    state_target = 0 if retention.state_blocks is None else height - retention.state_blocks
    body_target = 0 if retention.body_blocks is None else height - max(retention.body_blocks, body_floor)
    count = 0
    for _ in range(PRUNED_BLOCKS_MAX):
        if oldest_state < state_target and len(rows) < PRUNED_ROWS_MAX:
            oldest_state += 1
            rows += _forget_state(reader, oldest_state)
        if oldest_body < body_target and len(rows) < PRUNED_ROWS_MAX:
            rows += _forget_body(reader, oldest_body)
            oldest_body += 1
    if rows:
        count = len(rows)
        rows.append((Column.META.value + OLDEST_STATE_NAME, encode_height(oldest_state)))
        rows.append((Column.META.value + OLDEST_BODY_NAME, encode_height(oldest_body)))
    return Pruned(rows, count, oldest_state, oldest_body)


def _forget_state(reader: Snapshot, height: int) -> Iterator[Row]:
    """Prunes the way back over the block at `height`: the oldest state is then the one after it."""
    suffix = encode_height(height)
    found = reader.get(Column.UNDO.value + suffix)
    if found is None:
        raise DatabaseDamaged(reader.advise(f"the way back over block {height} is missing"))
    try:
        undo = decode(Undo, found, UNDO_BYTES_MAX)
    except DecodeError as error:
        raise DatabaseDamaged(reader.advise(f"the way back over block {height}: {error}")) from error
    for key in undo.list_keys():
        yield Column.STATE_WAS.value + key + suffix, None
    for path in undo.list_paths():
        yield Column.PAGE_WAS.value + path + suffix, None
    yield Column.UNDO.value + suffix, None


def _forget_body(reader: Snapshot, height: int) -> Iterator[Row]:
    """Prunes a block's body, receipts and indexes; header and commit stay."""
    suffix = encode_height(height)
    hashes = reader.get(Column.EXTRINSICS.value + suffix) or b""
    for at in range(0, len(hashes), HASH_BYTES):
        yield Column.EXTRINSIC.value + hashes[at : at + HASH_BYTES], None
    if reader.get(Column.META.value + INDEX_NAME) is not None:
        yield from _forget_subjects(reader, height)
    for column in (Column.BLOCK, Column.RECEIPTS, Column.EXTRINSICS):
        yield column.value + suffix, None


def _forget_subjects(reader: Snapshot, height: int) -> Iterator[Row]:
    """The index's rows of a block follow from its body."""
    suffix = encode_height(height)
    block, left = reader.get(Column.BLOCK.value + suffix), reader.get(Column.RECEIPTS.value + suffix)
    if block is None or left is None:
        return
    try:
        rows = make_rows(decode(Block, block), decode(BlockReceipts, left, RECEIPTS_BYTES_MAX))
    except DecodeError as error:
        raise DatabaseDamaged(reader.advise(f"the body of block {height}: {error}")) from error
    yield from ((key, None) for key, _ in rows)
