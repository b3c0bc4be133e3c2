"""Builds a block on the head, checks another node's, and derives what a decided one writes. No network, no clock.

Trust grows by type: a `Block` off the wire is unchecked; an `ExecutedCandidate` was checked against the head and
executed; a `FinalizedBlock` has its commit besides. Only the last can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from consensus.beacon import compute_beacon, verify_beacon
from consensus.bft.commit import verify_commit
from consensus.bft.errors import CommitError
from consensus.runtime.context import BlockContext
from consensus.runtime.errors import BlockError
from consensus.runtime.executive import execute_block, propose_block
from consensus.runtime.receipts import ExecutedBlock
from consensus.runtime.staking.state import read_priorities, read_validators
from consensus.runtime.validity import SignatureCheck
from consensus.state.reader import StateReader
from consensus.state.tree import TreeUpdate, update
from consensus.vrf import VrfError, proof_to_output
from node.store.chain_store import ChainStore, FinalizedBlock, Head
from proto_specs.codec import encode
from proto_specs.errors import MyelinError
from proto_specs.limits import BLOCK_BYTES_MAX
from proto_specs.types.chain import (
    Block,
    Commit,
    Evidence,
    Header,
    Transaction,
    compute_block_hash,
    compute_body_root,
    compute_commit_hash,
    compute_validators_hash,
)

CLOCK_DRIFT_MS_MAX = 5_000
"""A block's time may be this far ahead of our clock."""


class BlockInvalid(MyelinError):
    """The block cannot follow the head; no correct validator votes for it."""


@dataclass(frozen=True, slots=True)
class ExecutedCandidate:
    """A valid child of the head, executed."""

    block: Block
    block_hash: bytes
    executed: ExecutedBlock
    tree: TreeUpdate
    beacon: bytes


@dataclass(frozen=True, slots=True)
class Proposer:
    """The building key: its public half, and a function that makes its VRF proof from (beacon before, height)."""

    key: bytes
    prove_beacon: Callable[[bytes, int], bytes]


def build_block(
    store: ChainStore,
    head: Head,
    proposer: Proposer,
    now_ms: int,
    evidence: tuple[Evidence, ...],
    candidates: Iterable[Transaction],
    is_signed: SignatureCheck,
    last_commit: Commit | None = None,
) -> ExecutedCandidate:
    """The best block this node can propose on `head` now. `last_commit` decides the head; by default the stored one."""
    height = head.height + 1
    last_commit = last_commit or store.get_commit(head.height)
    vrf_proof = proposer.prove_beacon(head.beacon, height)
    beacon = compute_beacon(head.beacon, proof_to_output(vrf_proof))
    time_ms = max(now_ms, head.time_ms + 1)
    context = _make_context(store, head, time_ms, proposer.key, beacon, last_commit)
    transactions, executed = propose_block(store, context, evidence, candidates, is_signed)
    tree = update(store.read_page, head.state_root, executed.changes)
    header = Header(
        height=height,
        parent_hash=head.block_hash,
        time_ms=time_ms,
        proposer=proposer.key,
        vrf_proof=vrf_proof,
        validators_hash=compute_validators_hash(head.validators),
        last_commit_hash=compute_commit_hash(last_commit),
        body_root=compute_body_root(evidence, transactions),
        state_root=tree.root,
        receipts_root=executed.receipts_root,
    )
    block = Block(header, evidence, transactions, last_commit)
    return ExecutedCandidate(block, compute_block_hash(header), executed, tree, beacon)


def validate_block(
    store: ChainStore, head: Head, block: Block, now_ms: int | None, is_signed: SignatureCheck
) -> ExecutedCandidate:
    """Check header, commit of the parent and body against the head, execute, compare roots. Raises BlockInvalid.

    `now_ms` is None for a decided block. Its voters judged whether its time is too far ahead, and a node with a slow
    clock must still be able to follow them.
    """
    header = block.header
    _check_header(head, block, now_ms)
    try:
        beacon = verify_beacon(header.proposer, head.beacon, header.height, header.vrf_proof)
        if block.last_commit is not None:
            _check_last_commit(store, head, block.last_commit)
        context = _make_context(store, head, header.time_ms, header.proposer, beacon, block.last_commit)
        executed = execute_block(store, context, block.evidence, block.transactions, is_signed)
    except (VrfError, CommitError, BlockError) as error:
        raise BlockInvalid(str(error)) from error
    tree = update(store.read_page, head.state_root, executed.changes)
    if tree.root != header.state_root:
        raise BlockInvalid("the state root is not that of the executed block")
    if executed.receipts_root != header.receipts_root:
        raise BlockInvalid("the receipts root is not that of the executed block")
    return ExecutedCandidate(block, compute_block_hash(header), executed, tree, beacon)


def finalize_block(store: ChainStore, head: Head, done: ExecutedCandidate, commit: Commit) -> FinalizedBlock:
    """Returns the next head, with the elected set of the next height, and everything to write."""
    after = _StateAfter(store, done.executed)
    validators = read_validators(after)
    following = Head(
        height=head.height + 1,
        block_hash=done.block_hash,
        time_ms=done.block.header.time_ms,
        state_root=done.tree.root,
        beacon=done.beacon,
        validators=validators,
        deciders=head.validators,
        priorities=read_priorities(after),
    )
    return FinalizedBlock(done.block, commit, done.executed, done.tree, following)


def _check_header(head: Head, block: Block, now_ms: int | None) -> None:
    header = block.header
    if (header.height, header.parent_hash) != (head.height + 1, head.block_hash):
        raise BlockInvalid(f"block {header.height} does not follow block {head.height}")
    if header.time_ms <= head.time_ms:
        raise BlockInvalid(f"the block's time {header.time_ms} is not after its parent's")
    if now_ms is not None and header.time_ms > now_ms + CLOCK_DRIFT_MS_MAX:
        raise BlockInvalid(f"the block's time {header.time_ms} is too far ahead")
    if header.validators_hash != compute_validators_hash(head.validators):
        raise BlockInvalid("the header names another validator set")
    if header.last_commit_hash != compute_commit_hash(block.last_commit):
        raise BlockInvalid("the commit of the parent is not the one the header names")
    if (block.last_commit is None) != (head.height == 0):
        raise BlockInvalid("every block but the first carries the commit of its parent")
    if header.body_root != compute_body_root(block.evidence, block.transactions):
        raise BlockInvalid("the body is not the one the header names")
    if len(encode(block)) > BLOCK_BYTES_MAX:
        raise BlockInvalid(f"more than {BLOCK_BYTES_MAX} bytes")


def _check_last_commit(store: ChainStore, head: Head, commit: Commit) -> None:
    """Checks the parent's commit. A commit that this node stored was checked before."""
    if store.get_commit(head.height) != commit:
        verify_commit(commit, head.deciders, store.genesis_hash, head.height, head.block_hash)


def _make_context(
    store: ChainStore, head: Head, time_ms: int, proposer: bytes, beacon: bytes, last_commit: Commit | None
) -> BlockContext:
    return BlockContext(
        height=head.height + 1,
        time_ms=time_ms,
        proposer=proposer,
        beacon=beacon,
        genesis=store.genesis_hash,
        parent_hash=head.block_hash,
        last_commit=last_commit,
    )


class _StateAfter:
    """The state with a block's changes applied; for single reads."""

    def __init__(self, before: StateReader, executed: ExecutedBlock) -> None:
        self._before = before
        self._changes = dict(executed.changes)

    def get(self, key: bytes) -> bytes | None:
        return self._changes[key] if key in self._changes else self._before.get(key)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        merged: dict[bytes, bytes | None] = dict(self._before.iterate(prefix))
        merged.update({key: value for key, value in self._changes.items() if key.startswith(prefix)})
        return iter(sorted((key, value) for key, value in merged.items() if value is not None))
