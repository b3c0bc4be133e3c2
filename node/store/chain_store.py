"""The chain on disk: head, state, blocks, receipts, indices. One synced batch per block moves all of it together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from consensus.bft.proposer import ProposerRotation
from consensus.runtime.system.state import now
from consensus.state.tree import verify_proof
from genesis.builder import Genesis
from node.store.backing import LEVELDB, Backing
from node.store.columns import Column
from node.store.database import DatabaseDamaged, DatabaseError
from node.store.history import Pruned, Row, compute_body_floor, make_history, prune
from node.store.indexing import SubjectIndex
from node.store.mark import Note
from node.store.records import (
    RECEIPTS_BYTES_MAX,
    UNDO_BYTES_MAX,
    BlockReceipts,
    FinalizedBlock,
    Head,
    Location,
    Undo,
    encode_height,
)
from node.store.retention import DEFAULT_RETENTION, Retention
from node.store.views import (
    BASE_NAME,
    HEAD_NAME,
    OLDEST_BODY_NAME,
    OLDEST_STATE_NAME,
    PastView,
    StateUnavailable,
    StateView,
)
from proto_specs.codec import encode
from proto_specs.types.chain import (
    Block,
    Commit,
    Header,
    ValidatorSet,
    compute_block_hash,
    compute_extrinsic_hash,
    compute_validators_hash,
)

__all__ = [
    "FORMAT_VERSION",
    "BlockReceipts",
    "ChainStore",
    "FinalizedBlock",
    "Head",
    "Location",
    "Retention",
    "StateUnavailable",
    "StateView",
]

FORMAT_VERSION = b"5"
_VERSION_KEY = Column.META.value + b"version"
_GENESIS_KEY = Column.META.value + b"genesis"
_HEAD_KEY = Column.META.value + HEAD_NAME
_COMPACTED_COLUMNS = (
    Column.STATE_WAS,
    Column.PAGE_WAS,
    Column.UNDO,
    Column.BLOCK,
    Column.RECEIPTS,
    Column.EXTRINSIC,
    Column.EXTRINSICS,
    Column.SUBJECT,
)
FORGOTTEN_ROWS = 10_000
LINKED_BLOCKS = 10_000
"""The newest headers checked on opening. A lost log or table takes whole blocks with it."""
COMPACT_ROWS = 500_000
"""Pruned rows (some 50 MB) that make it worth copying the rest of their columns."""


CACHED_PAGES_DEPTH = 3
"""Hex digits of the pages kept in memory: at most 4,369 branches of half a kilobyte."""


class ChainStore(StateView):
    """The chain's current state, and the only place that writes it."""

    def __init__(
        self, path: Path, genesis: Genesis, retention: Retention = DEFAULT_RETENTION, backing: Backing = LEVELDB
    ) -> None:
        """Open; write the genesis into an empty database. Raises DatabaseError for another chain or format."""
        self._db = backing.open_database(path)
        super().__init__(self._db)
        self.genesis_hash = genesis.hash
        self._retention = retention
        self._pruned_rows = 0
        self._pages: dict[bytes, bytes] = {}
        self._head: Head
        try:
            version = self._db.get(_VERSION_KEY)
            if version is None:
                self._write_genesis(genesis)
            elif version != FORMAT_VERSION:
                raise DatabaseError(_describe_format(path, version))
            else:
                self._check_chain(path)
            self._head = super().get_head()
            self._check_head()
            self._check_reaches(path, backing.read_note(path))
            self.base = self._load_number(BASE_NAME)
            self._oldest_state = self._load_number(OLDEST_STATE_NAME)
            self._oldest_body = self._load_number(OLDEST_BODY_NAME)
            self.index = SubjectIndex(self._db, is_kept=retention.is_indexed)
            self._mark = backing.open_mark(path, self._head.height, self._head.block_hash)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Note the height it has reached, and release the database."""
        self._mark.close()
        self._db.close()

    def get_head(self) -> Head:
        """The newest finalized block and what the next one builds on."""
        return self._head

    def view(self) -> StateView:
        """The head and its state as of now; later blocks do not change the view."""
        return StateView(self._db.snapshot())

    def view_at(self, height: int) -> StateView:
        """The state after the block at `height`, unmoved by later blocks. Raises StateUnavailable, DatabaseDamaged.

        Proofs are under that block's state root.
        """
        reader = self._db.snapshot()
        at_head = StateView(reader)
        newest, oldest = at_head.get_head().height, at_head.get_oldest_state()
        if not oldest <= height <= newest:
            raise StateUnavailable(height, oldest, newest)
        return at_head if height == newest else PastView(reader, height)

    @property
    def retention(self) -> Retention:
        """What this run of the node keeps."""
        return self._retention

    @property
    def oldest_state(self) -> int:
        """The lowest height whose state can be read."""
        return self._oldest_state

    def list_changes(self, height: int) -> tuple[list[bytes], list[bytes]]:
        """The state keys and page paths that a block within the kept states changed. Raises DatabaseDamaged."""
        undo = self._load(Undo, Column.UNDO, encode_height(height), UNDO_BYTES_MAX)
        if undo is None:
            raise DatabaseDamaged(self._db.advise(f"the way back over block {height} is missing"))
        return undo.list_keys(), undo.list_paths()

    def count_rows(self, column: Column) -> int:
        """The number of rows of a column, found by a walk over all of them."""
        return sum(1 for _ in self._db.iterate_keys(column.value, b""))

    def has_row(self, column: Column, key: bytes) -> bool:
        """Whether a column has a row under exactly this key."""
        return self._db.get(column.value + key) is not None

    def forget_history(self) -> None:
        """Keep no state but the head's, for a database with damaged history and an intact head."""
        head = encode_height(self._head.height)
        self._db.write([(Column.META.value + OLDEST_STATE_NAME, head)])
        for column in (Column.STATE_WAS, Column.PAGE_WAS, Column.UNDO):
            while rows := list(itertools.islice(self._db.iterate_keys(column.value, b""), FORGOTTEN_ROWS)):
                self._db.write((row, None) for row in rows)
        self._oldest_state = self._head.height

    @property
    def oldest_body(self) -> int:
        """The lowest height whose body and receipts are kept."""
        return self._oldest_body

    def read_page(self, path: bytes) -> bytes | None:
        """A page as of the head. Nearly every block reads the tree's upper pages, so they are kept in memory."""
        if len(path) > CACHED_PAGES_DEPTH:
            return super().read_page(path)
        if path not in self._pages:
            found = super().read_page(path)
            if found is None:
                return None
            self._pages[path] = found
        return self._pages[path]

    def commit_block(self, done: FinalizedBlock) -> None:
        """Make a block the head and prune what expires with it, in one synced batch: after a crash all of it is there
        or none.
        """
        keeps, oldest = self._retention, (self._oldest_state, self._oldest_body)
        floor = 0 if keeps.body_blocks is None else compute_body_floor(self)
        pruned = prune(self._db, done.head.height, keeps, floor, *oldest)
        self._db.write(itertools.chain(self.index.make_batch(done), _make_batch(self._head, done, pruned)))
        for page_path, page in done.tree.node_writes.items():
            if page is None or len(page_path) > CACHED_PAGES_DEPTH:
                self._pages.pop(page_path, None)
            else:
                self._pages[page_path] = page
        self._mark.add(done.head.height, done.head.block_hash)
        self._head = done.head
        self._oldest_state, self._oldest_body = pruned.oldest_state, pruned.oldest_body
        self._pruned_rows += pruned.count

    def describe_retention(self) -> str:
        """A line for the log: what is kept, and what is therefore unavailable."""
        head, keeps = self._head.height, self._retention
        states = "of all blocks from now on" if keeps.state_blocks is None else f"of {keeps.state_blocks} blocks"
        text = f"keeping states {states}: those after blocks {self._oldest_state} to {head} are here"
        if keeps.state_blocks is None and self._oldest_state:
            text += f"; what lies before block {self._oldest_state} was pruned earlier and does not come back"
        bodies = "all bodies" if keeps.body_blocks is None else f"bodies of {keeps.body_blocks} blocks"
        return f"{text}; keeping {bodies}, from block {self._oldest_body} on"

    @property
    def is_compaction_due(self) -> bool:
        """Whether enough was pruned to make `compact` worth its work."""
        return self._pruned_rows >= COMPACT_ROWS

    def compact(self) -> None:
        """Return pruned disk space. Reads and blocks continue meanwhile; takes as long as copying the rest. Call
        it in a thread.
        """
        self._pruned_rows = 0
        for column in _COMPACTED_COLUMNS:
            self._db.compact(column.value)

    def get_header(self, height: int) -> Header | None:
        """The header of a finalized block."""
        return self._load(Header, Column.HEADER, encode_height(height))

    def get_block(self, height: int) -> Block | None:
        """A finalized block."""
        return self._load(Block, Column.BLOCK, encode_height(height))

    def get_commit(self, height: int) -> Commit | None:
        """The commit that finalized a block."""
        return self._load(Commit, Column.COMMIT, encode_height(height))

    def get_validators(self, validators_hash: bytes) -> ValidatorSet | None:
        """A set that decided blocks of this database, by the hash in their headers."""
        return self._load(ValidatorSet, Column.VALIDATORS, validators_hash)

    def get_receipts(self, height: int) -> BlockReceipts | None:
        """The receipts and events of a block."""
        return self._load(BlockReceipts, Column.RECEIPTS, encode_height(height), RECEIPTS_BYTES_MAX)

    def find_height(self, block_hash: bytes) -> int | None:
        """The height of a finalized block."""
        found = self._db.get(Column.HEIGHT.value + block_hash)
        return None if found is None else int.from_bytes(found, "big")

    def find_extrinsic(self, extrinsic: bytes) -> Location | None:
        """Where a transaction was included."""
        return self._load(Location, Column.EXTRINSIC, extrinsic)

    def get_block_hash(self, height: int) -> bytes | None:
        """The hash of a finalized block; the genesis hash at height 0."""
        if height == 0:
            return self.genesis_hash
        header = self.get_header(height)
        return None if header is None else compute_block_hash(header)

    def _check_chain(self, path: Path) -> None:
        """Requires that the database is this chain's. Raises DatabaseDamaged, DatabaseError."""
        found = self._db.get(_GENESIS_KEY)
        if found is None:
            raise DatabaseDamaged(self._db.advise("it does not say which chain's it is"))
        if found != self.genesis_hash:
            raise DatabaseError(f"{path} belongs to another chain than the spec: use another --base directory")

    def _check_head(self) -> None:
        """Requires that head, block, state and tree match; a repair may have lost some. Raises DatabaseDamaged."""
        head = self._head
        if self.get_block_hash(head.height) != head.block_hash:
            raise DatabaseDamaged(self._db.advise(f"block {head.height} is not that of the head"))
        expected = max(1, self._load_number(BASE_NAME), head.height + 1 - LINKED_BLOCKS)
        column = Column.HEADER.value
        for key in self._db.iterate_keys(column, column + encode_height(expected)):
            if key[1:] != encode_height(expected):
                raise DatabaseDamaged(self._db.advise(f"block {expected} is missing"))
            expected += 1
        key = now.key
        if not verify_proof(head.state_root, key, self.get(key), self.prove(key)):
            raise DatabaseDamaged(self._db.advise(f"the state is not that of block {head.height}"))

    def _check_reaches(self, path: Path, note: Note | None) -> None:
        """Requires everything that was synced once. Raises DatabaseDamaged."""
        head = self._head
        if note is not None and (head.height < note.height or self.get_block_hash(note.height) != note.block_hash):
            raise DatabaseDamaged(
                f"the database {path} ends at block {head.height}, and had block {note.height} "
                f"(0x{note.block_hash.hex()[:12]}…): it lost what it had synced. Run `myelin db repair`; what does not "
                "come back has to be synced again from other nodes, into a new `db`: move `consensus.wal` away "
                "together with the old one"
            )

    def _write_genesis(self, genesis: Genesis) -> None:
        if next(self._db.iterate(b""), None) is not None:
            raise DatabaseDamaged(self._db.advise("it holds data but not which chain's"))
        rotation = ProposerRotation.start(genesis.validators)
        head = Head(
            height=0,
            block_hash=genesis.hash,
            time_ms=genesis.spec.genesis_time_ms,
            state_root=genesis.state_root,
            beacon=genesis.beacon,
            validators=genesis.validators,
            deciders=genesis.validators,
            priorities=rotation.encode_priorities(),
        )
        batch: list[tuple[bytes, bytes | None]] = [(Column.STATE.value + key, value) for key, value in genesis.items]
        batch += [(Column.TREE.value + path, page) for path, page in genesis.tree.node_writes.items()]
        batch += [make_validators_row(genesis.validators), *make_meta(head, genesis.hash, base=0)]
        self._db.write(batch)


def make_meta(head: Head, genesis: bytes, base: int) -> list[Row]:
    """The rows that make a database this chain's, beginning with the state after block `base`, which is its head."""
    meta = Column.META.value
    return [
        (_HEAD_KEY, encode(head)),
        (meta + OLDEST_STATE_NAME, encode_height(base)),
        (meta + OLDEST_BODY_NAME, encode_height(base + 1)),
        (meta + BASE_NAME, encode_height(base)),
        (_GENESIS_KEY, genesis),
        (_VERSION_KEY, FORMAT_VERSION),
    ]


def make_validators_row(validators: ValidatorSet) -> Row:
    """A validator set under its hash in headers."""
    return Column.VALIDATORS.value + compute_validators_hash(validators), encode(validators)


def _make_batch(before: Head, done: FinalizedBlock, pruned: Pruned) -> Iterator[Row]:
    height = encode_height(done.head.height)
    for key, value in done.executed.changes:
        yield Column.STATE.value + key, value
    for path, page in done.tree.node_writes.items():
        yield Column.TREE.value + path, page
    yield from make_history(before, done)
    yield Column.BLOCK.value + height, encode(done.block)
    yield Column.HEADER.value + height, encode(done.block.header)
    yield Column.COMMIT.value + height, encode(done.commit)
    yield Column.RECEIPTS.value + height, encode(BlockReceipts(done.executed.receipts, done.executed.events))
    yield Column.HEIGHT.value + done.head.block_hash, height
    if done.head.validators != before.validators:
        yield make_validators_row(done.head.validators)
    hashes = [compute_extrinsic_hash(one) for one in done.block.transactions]
    for index, extrinsic in enumerate(hashes):
        yield Column.EXTRINSIC.value + extrinsic, encode(Location(done.head.height, index))
    yield Column.EXTRINSICS.value + height, b"".join(hashes)
    yield from pruned.rows
    yield _HEAD_KEY, encode(done.head)


def _describe_format(path: Path, version: bytes) -> str:
    """What to do with a database of another release."""
    found, own = version.decode("ascii", "replace"), FORMAT_VERSION.decode()
    text = f"{path} has format {found}, this node reads {own}: "
    if found.isdigit() and int(found) < int(own):
        return text + (
            "it is older and is not converted. Run the release that wrote it, or begin in a new --base directory and "
            "fill it with `myelin snapshot import` or by syncing; move signer.json with the key, never copy it"
        )
    return text + "it is newer. Use the release that wrote it, or a new --base directory"
