"""The database's records beside state and blocks, as types. Knows no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from consensus.bft.proposer import ProposerRotation
from consensus.runtime.receipts import BlockEvents, ExecutedBlock, Receipt
from consensus.state.tree import TreeUpdate
from proto_specs import limits
from proto_specs.codec import U32, U64, Max, record
from proto_specs.types.chain import Block, Commit, ValidatorSet
from proto_specs.types.common import Hash32

RECEIPTS_BYTES_MAX = 64 * limits.MIB
UNDO_BYTES_MAX = 64 * limits.MIB
PRIORITIES_BYTES_MAX = 16 * limits.VALIDATORS_MAX
_KEY_LENGTH_BYTES = 2


@record
class Head:
    """The head of the chain: everything that the next block builds on.

    `validators` and `priorities` belong to the NEXT height; `deciders` is the set that decided this one.
    """

    height: U64
    block_hash: Hash32
    time_ms: U64
    state_root: Hash32
    beacon: Hash32
    validators: ValidatorSet
    deciders: ValidatorSet
    priorities: Annotated[bytes, Max(PRIORITIES_BYTES_MAX)]

    @property
    def rotation(self) -> ProposerRotation:
        """The proposer of the next height."""
        return ProposerRotation.decode(self.validators, self.priorities)


@record
class BlockReceipts:
    """The receipts and events of a block."""

    receipts: Annotated[tuple[Receipt, ...], Max(limits.BLOCK_EXTRINSICS_MAX)]
    events: BlockEvents


@record
class Location:
    """The place of a transaction in the chain."""

    height: U64
    index: U32


@record
class Undo:
    """The way back over one block: the parts of the previous head that are not in the state (`deciders` None: its
    validators), and the state keys and page paths with a row of history at its height.
    """

    time_ms: U64
    state_root: Hash32
    beacon: Hash32
    deciders: ValidatorSet | None
    priorities: Annotated[bytes, Max(PRIORITIES_BYTES_MAX)]
    keys: Annotated[bytes, Max(UNDO_BYTES_MAX)]
    paths: Annotated[bytes, Max(UNDO_BYTES_MAX)]

    def list_keys(self) -> list[bytes]:
        """The state keys the block changed."""
        found, at = [], 0
        while at < len(self.keys):
            start = at + _KEY_LENGTH_BYTES
            at = start + int.from_bytes(self.keys[at:start], "big")
            found.append(self.keys[start:at])
        return found

    def list_paths(self) -> list[bytes]:
        """The pages the block changed: at least the root's wherever a key changed."""
        return self.paths.split(b",") if self.keys else []


@dataclass(frozen=True, slots=True)
class FinalizedBlock:
    """A decided and executed block with all it writes."""

    block: Block
    commit: Commit
    executed: ExecutedBlock
    tree: TreeUpdate
    head: Head


def pack_keys(keys: list[bytes]) -> bytes:
    """State keys as `Undo` keeps them."""
    return b"".join([len(key).to_bytes(_KEY_LENGTH_BYTES, "big") + key for key in keys])


def pack_paths(paths: list[bytes]) -> bytes:
    """Page paths (hex digits) as `Undo` keeps them."""
    return b",".join(paths)


def encode_height(height: int) -> bytes:
    """A height as part of a key: blocks are in order."""
    return height.to_bytes(8, "big")
