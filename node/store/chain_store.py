"""The chain on disk: head, state, blocks, receipts, indices. One synced batch per block moves all of it together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from consensus.bft.proposer import ProposerRotation
from consensus.runtime.receipts import BlockEvents, ExecutedBlock, Receipt
from consensus.runtime.system.state import now
from consensus.state.tree import Proof, TreeUpdate, prove, verify_proof
from genesis.builder import Genesis
from node.store.columns import Column
from node.store.database import Database, DatabaseDamaged, DatabaseError, Snapshot
from proto_specs import limits
from proto_specs.codec import U32, U64, Max, decode, encode, record
from proto_specs.errors import DecodeError
from proto_specs.types.chain import Block, Commit, Header, ValidatorSet, compute_block_hash, compute_extrinsic_hash
from proto_specs.types.common import Hash32

T = TypeVar("T")

FORMAT_VERSION = b"2"
_HEAD = b"head"
_VERSION_KEY = Column.META.value + b"version"
_GENESIS_KEY = Column.META.value + b"genesis"
_HEAD_KEY = Column.META.value + _HEAD
RECEIPTS_BYTES_MAX = 64 * limits.MIB


@record
class Head:
    """Where the chain stands: everything the next block is built on.

    `validators` and `priorities` belong to the NEXT height; `deciders` is the set that decided this one.
    """

    height: U64
    block_hash: Hash32
    time_ms: U64
    state_root: Hash32
    beacon: Hash32
    validators: ValidatorSet
    deciders: ValidatorSet
    priorities: Annotated[bytes, Max(16 * limits.VALIDATORS_MAX)]

    @property
    def rotation(self) -> ProposerRotation:
        """Who proposes at the next height."""
        return ProposerRotation.decode(self.validators, self.priorities)


@record
class BlockReceipts:
    """What a block left behind."""

    receipts: Annotated[tuple[Receipt, ...], Max(limits.BLOCK_EXTRINSICS_MAX)]
    events: BlockEvents


@record
class Location:
    """Where a transaction is."""

    height: U64
    index: U32


@dataclass(frozen=True, slots=True)
class FinalizedBlock:
    """A decided and executed block with all it writes."""

    block: Block
    commit: Commit
    executed: ExecutedBlock
    tree: TreeUpdate
    head: Head


class StateView:
    """The head and its state at one moment: a `StateReader` whose answers fit together."""

    def __init__(self, reader: Snapshot) -> None:
        self._reader = reader

    def get_head(self) -> Head:
        """Where the chain stands. Raises DatabaseDamaged."""
        found = self._load(Head, Column.META, _HEAD)
        if found is None:
            raise DatabaseDamaged(self._reader.advise("the head is missing"))
        return found

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

    def prove(self, key: bytes) -> Proof:
        """Proof of a state key under the head's state root."""
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


class ChainStore(StateView):
    """The chain as of now, and the one place that writes it."""

    def __init__(self, path: Path, genesis: Genesis) -> None:
        """Open; write the genesis into an empty database. Raises DatabaseError for another chain or format."""
        self._db = Database(path)
        super().__init__(self._db)
        self.genesis_hash = genesis.hash
        self._head: Head
        try:
            version = self._db.get(_VERSION_KEY)
            if version is None:
                self._write_genesis(genesis)
            elif version != FORMAT_VERSION:
                raise DatabaseError(
                    f"{path} has format {version.decode()}, this node reads {FORMAT_VERSION.decode()}: "
                    "use the release that wrote it, or a new --base directory"
                )
            elif self._db.get(_GENESIS_KEY) != genesis.hash:
                raise DatabaseError(f"{path} belongs to another chain than the spec: use another --base directory")
            self._head = super().get_head()
            self._check_head()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Release the database."""
        self._db.close()

    def get_head(self) -> Head:
        """Where the chain stands."""
        return self._head

    def view(self) -> StateView:
        """The head and its state as of now, unmoved by blocks to come."""
        return StateView(self._db.snapshot())

    def commit_block(self, done: FinalizedBlock) -> None:
        """Make a block the head, in one synced batch: after a crash it is there wholly or not at all."""
        self._db.write(_make_batch(done))
        self._head = done.head

    def get_header(self, height: int) -> Header | None:
        """The header of a finalized block."""
        return self._load(Header, Column.HEADER, _encode_height(height))

    def get_block(self, height: int) -> Block | None:
        """A finalized block."""
        return self._load(Block, Column.BLOCK, _encode_height(height))

    def get_commit(self, height: int) -> Commit | None:
        """The commit that finalized a block."""
        return self._load(Commit, Column.COMMIT, _encode_height(height))

    def get_receipts(self, height: int) -> BlockReceipts | None:
        """What a block left behind."""
        return self._load(BlockReceipts, Column.RECEIPTS, _encode_height(height), RECEIPTS_BYTES_MAX)

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

    def _check_head(self) -> None:
        """Head, block, state and tree fit together, or a repair has lost something. Raises DatabaseDamaged."""
        head = self._head
        if self.get_block_hash(head.height) != head.block_hash:
            raise DatabaseDamaged(self._db.advise(f"block {head.height} is not that of the head"))
        key = now.key
        if not verify_proof(head.state_root, key, self.get(key), self.prove(key)):
            raise DatabaseDamaged(self._db.advise(f"the state is not that of block {head.height}"))

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
        batch += [(_HEAD_KEY, encode(head)), (_GENESIS_KEY, genesis.hash), (_VERSION_KEY, FORMAT_VERSION)]
        self._db.write(batch)


def _make_batch(done: FinalizedBlock) -> Iterator[tuple[bytes, bytes | None]]:
    height = _encode_height(done.head.height)
    for key, value in done.executed.changes:
        yield Column.STATE.value + key, value
    for path, page in done.tree.node_writes.items():
        yield Column.TREE.value + path, page
    yield Column.BLOCK.value + height, encode(done.block)
    yield Column.HEADER.value + height, encode(done.block.header)
    yield Column.COMMIT.value + height, encode(done.commit)
    yield Column.RECEIPTS.value + height, encode(BlockReceipts(done.executed.receipts, done.executed.events))
    yield Column.HEIGHT.value + done.head.block_hash, height
    for index, transaction in enumerate(done.block.transactions):
        location = encode(Location(done.head.height, index))
        yield Column.EXTRINSIC.value + compute_extrinsic_hash(transaction), location
    yield _HEAD_KEY, encode(done.head)


def _encode_height(height: int) -> bytes:
    return height.to_bytes(8, "big")
