"""Executes a stored chain anew, block by block on a fresh database, and compares everything."""

from __future__ import annotations

from pathlib import Path

from consensus.bft.commit import verify_commit
from consensus.runtime.validity import build_signature_check
from consensus.state.tree import EMPTY_ROOT, update
from genesis.builder import Genesis
from node.chain.blocks import finalize_block, validate_block
from node.store.chain_store import ChainStore


def replay_chain(database: Path, scratch: Path, genesis: Genesis) -> int:
    """Asserts that every stored block is a valid, committed child of the one before and that the stored head, state
    and tree are what they lead to. Signatures of transactions and commits are verified. The height.
    """
    stored, fresh = ChainStore(database, genesis), ChainStore(scratch, genesis)
    try:
        for height in range(1, stored.get_head().height + 1):
            block, commit, head = stored.get_block(height), stored.get_commit(height), fresh.get_head()
            assert block is not None
            assert commit is not None
            made = validate_block(fresh, head, block, block.header.time_ms, build_signature_check(genesis.hash))
            verify_commit(commit, head.validators, genesis.hash, height, made.block_hash)
            fresh.commit_block(finalize_block(fresh, head, made, commit))
            assert stored.get_receipts(height) == fresh.get_receipts(height)
        assert fresh.get_head() == stored.get_head()
        state = sorted(stored.iterate(b""))
        assert list(fresh.iterate(b"")) == state
        assert update(lambda path: None, EMPTY_ROOT, state).root == stored.get_head().state_root
        return stored.get_head().height
    finally:
        fresh.close()
        stored.close()
