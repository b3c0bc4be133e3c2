"""The chain on disk: head, state, blocks, receipts, indices. One synced batch per block moves all of it together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from consensus.bft.proposer import ProposerRotation
from consensus.runtime.receipts import BlockEvents, ExecutedBlock, Receipt
from consensus.state.tree import Proof, TreeUpdate, prove
from genesis.builder import Genesis
from node.store.columns import Column
from node.store.database import Database, DatabaseError
from proto_specs import limits
from proto_specs.codec import U32, U64, Max, decode, encode, record
from proto_specs.types.chain import Block, Commit, ValidatorSet, compute_block_hash, compute_extrinsic_hash
from proto_specs.types.common import Hash32

FORMAT_VERSION = b"1"
_VERSION_KEY = Column.META.value + b"version"
_GENESIS_KEY = Column.META.value + b"genesis"
_HEAD_KEY = Column.META.value + b"head"
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


class ChainStore:
    """Typed access. Also the `StateReader` of the head's state."""

    def __init__(self, path: Path, genesis: Genesis) -> None:
        """Open; write the genesis into an empty database. Raises DatabaseError for another chain or format."""
        self._db = Database(path)
        try:
            version = self._db.get(_VERSION_KEY)
            if version is None:
                self._write_genesis(genesis)
            elif version != FORMAT_VERSION:
                raise DatabaseError(f"{path} has format {version.decode()}, this node reads {FORMAT_VERSION.decode()}")
            elif self._db.get(_GENESIS_KEY) != genesis.hash:
                raise DatabaseError(f"{path} belongs to another chain than the spec: use another --base directory")
        except BaseException:
            self._db.close()
            raise
        self.genesis_hash = genesis.hash

    def close(self) -> None:
        """Release the database."""
        self._db.close()

    def get_head(self) -> Head:
        """Where the chain stands."""
        found = self._db.get(_HEAD_KEY)
        assert found is not None, "written with the genesis"
        return decode(Head, found)

    def get(self, key: bytes) -> bytes | None:
        """StateReader: the value of a state key."""
        return self._db.get(Column.STATE.value + key)

    def iterate(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """StateReader: (key, value) under `prefix`, from `start` on."""
        column = Column.STATE.value
        for key, value in self._db.iterate(column + prefix, column + start):
            yield key[1:], value

    def read_page(self, path: bytes) -> bytes | None:
        """NodeReader of the state's commitment."""
        return self._db.get(Column.TREE.value + path)

    def prove(self, key: bytes) -> Proof:
        """Proof of a state key under the head's state root."""
        return prove(self.read_page, key)

    def commit_block(self, done: FinalizedBlock) -> None:
        """Make a block the head, in one synced batch: after a crash it is there wholly or not at all."""
        self._db.write(_make_batch(done))

    def get_block(self, height: int) -> Block | None:
        """A finalized block."""
        found = self._db.get(Column.BLOCK.value + _encode_height(height))
        return None if found is None else decode(Block, found)

    def get_commit(self, height: int) -> Commit | None:
        """The commit that finalized a block."""
        found = self._db.get(Column.COMMIT.value + _encode_height(height))
        return None if found is None else decode(Commit, found)

    def get_receipts(self, height: int) -> BlockReceipts | None:
        """What a block left behind."""
        found = self._db.get(Column.RECEIPTS.value + _encode_height(height))
        return None if found is None else decode(BlockReceipts, found, RECEIPTS_BYTES_MAX)

    def find_height(self, block_hash: bytes) -> int | None:
        """The height of a finalized block."""
        found = self._db.get(Column.HEIGHT.value + block_hash)
        return None if found is None else int.from_bytes(found, "big")

    def find_extrinsic(self, extrinsic: bytes) -> Location | None:
        """Where a transaction was included."""
        found = self._db.get(Column.EXTRINSIC.value + extrinsic)
        return None if found is None else decode(Location, found)

    def get_block_hash(self, height: int) -> bytes | None:
        """The hash of a finalized block; the genesis hash at height 0."""
        if height == 0:
            return self.genesis_hash
        block = self.get_block(height)
        return None if block is None else compute_block_hash(block.header)

    def _write_genesis(self, genesis: Genesis) -> None:
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
    yield Column.COMMIT.value + height, encode(done.commit)
    yield Column.RECEIPTS.value + height, encode(BlockReceipts(done.executed.receipts, done.executed.events))
    yield Column.HEIGHT.value + done.head.block_hash, height
    for index, transaction in enumerate(done.block.transactions):
        location = encode(Location(done.head.height, index))
        yield Column.EXTRINSIC.value + compute_extrinsic_hash(transaction), location
    yield _HEAD_KEY, encode(done.head)


def _encode_height(height: int) -> bytes:
    return height.to_bytes(8, "big")
