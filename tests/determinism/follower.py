"""A node reduced to what two nodes must agree on: follows a chain block by block, in memory, and checks everything.

Needs proto_specs, consensus and genesis alone, so it runs under any Python that has msgpack and PyNaCl. It is also the
shortest account in this repository of how a block is checked; `node/chain/blocks.py` does the same on disk.
"""

from __future__ import annotations

from collections.abc import Mapping

from consensus.beacon import verify_beacon
from consensus.bft.commit import verify_commit
from consensus.bft.proposer import ProposerRotation
from consensus.runtime.context import BlockContext
from consensus.runtime.executive import execute_block
from consensus.runtime.receipts import ExecutedBlock
from consensus.runtime.staking.state import read_validators
from consensus.state.reader import DictState
from consensus.state.tree import EMPTY_ROOT, update
from genesis.builder import Genesis
from proto_specs.codec import encode
from proto_specs.types.chain import (
    Block,
    Commit,
    compute_block_hash,
    compute_body_root,
    compute_commit_hash,
    compute_validators_hash,
)


class Follower:
    """State, tree and validators after the last block that was applied."""

    def __init__(self, genesis: Genesis, items: Mapping[bytes, bytes] | None = None) -> None:
        """`items` stands in for the genesis state, in whatever order: the result must not depend on it."""
        self.genesis = genesis
        self.state = DictState(dict(genesis.items) if items is None else items)
        tree = update(lambda path: None, EMPTY_ROOT, sorted(self.state.items.items()))
        assert tree.root == genesis.state_root, "these are not the items of this genesis"
        self.pages = {path: page for path, page in tree.node_writes.items() if page is not None}
        self.root = tree.root
        self.height = 0
        self.block_hash = genesis.hash
        self.time_ms = genesis.spec.genesis_time_ms
        self.beacon = genesis.beacon
        self.validators = self.deciders = genesis.validators
        self.rotation = ProposerRotation.start(genesis.validators)

    def apply(self, block: Block) -> ExecutedBlock:
        """Check, execute and follow a block. Raises AssertionError or whatever the check raises."""
        header, commit = block.header, block.last_commit
        assert (header.height, header.parent_hash) == (self.height + 1, self.block_hash)
        assert header.time_ms > self.time_ms
        assert header.proposer == self.rotation.get_proposer()
        assert header.validators_hash == compute_validators_hash(self.validators)
        assert header.last_commit_hash == compute_commit_hash(commit)
        assert header.body_root == compute_body_root(block.evidence, block.transactions)
        if commit is not None:
            self.check_commit(commit)
        beacon = verify_beacon(header.proposer, self.beacon, header.height, header.vrf_proof)
        context = BlockContext(
            height=header.height,
            time_ms=header.time_ms,
            proposer=header.proposer,
            beacon=beacon,
            genesis=self.genesis.hash,
            parent_hash=self.block_hash,
            last_commit=commit,
        )
        executed = execute_block(self.state, context, block.evidence, block.transactions)
        self.follow(executed)
        assert (self.root, executed.receipts_root) == (header.state_root, header.receipts_root)
        self.settle(compute_block_hash(header), header.time_ms, beacon)
        return executed

    def check_commit(self, commit: Commit) -> None:
        """Whether a commit decides the last applied block."""
        verify_commit(commit, self.deciders, self.genesis.hash, self.height, self.block_hash)

    def follow(self, executed: ExecutedBlock) -> None:
        """Take over what a block changed, in state and tree."""
        result = update(self.pages.get, self.root, executed.changes)
        self.root = result.root
        for path, page in result.node_writes.items():
            if page is None:
                self.pages.pop(path, None)
            else:
                self.pages[path] = page
        self.state.apply(executed.changes)

    def settle(self, block_hash: bytes, time_ms: int, beacon: bytes) -> None:
        """The block is the head now: its state says who decides the next one."""
        self.height, self.block_hash, self.time_ms, self.beacon = self.height + 1, block_hash, time_ms, beacon
        self.deciders, self.rotation = self.validators, self.rotation.advance()
        elected = read_validators(self.state)
        if elected != self.validators:
            self.rotation = self.rotation.with_validators(elected)
        self.validators = elected


def encode_outcome(executed: ExecutedBlock) -> bytes:
    """Everything a block told the world, in canonical bytes one after the other: events, then receipts."""
    return b"".join([encode(executed.events), *(encode(one) for one in executed.receipts)])
