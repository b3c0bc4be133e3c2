"""A validator on a real directory whose disk can fail before or after any one of its writes, as a crash would."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from genesis.builder import Genesis, build_genesis
from genesis.dev import build_dev_spec
from node import signer as signer_module
from node.chain.bus import BlockBus
from node.chain.consensus_shell import ConsensusShell, ShellParts
from node.chain.pool import TransactionPool
from node.mempool import Mempool
from node.signer import Signer
from node.store.chain_store import ChainStore
from node.wal import Wal
from proto_specs.types.chain import Proposal, Transaction, Vote
from tests.unit.node.world import ALICE

INTERVAL_MS = 5


class Crashed(BaseException):
    """The machine stops here: nothing of the process runs on."""


@dataclass
class Gossip:
    """Remembers what left the node."""

    sent: list[Proposal | Vote] = field(default_factory=list)

    def broadcast_proposal(self, proposal: Proposal) -> None:
        self.sent.append(proposal)

    def broadcast_vote(self, vote: Vote) -> None:
        self.sent.append(vote)


@dataclass
class Validator:
    """Alice's node, without network and RPC."""

    base: Path
    genesis: Genesis = field(default_factory=lambda: build_genesis(build_dev_spec(block_interval_ms=INTERVAL_MS)))
    gossip: Gossip = field(default_factory=Gossip)

    def __post_init__(self) -> None:
        Signer.initialise(self.base / "signer.json", ALICE.consensus_key, self.genesis.hash)

    async def run(self, blocks: int, transactions: tuple[Transaction, ...] = ()) -> list[int]:
        """Start on what the disk holds, submit, run for so many blocks, stop; the heights that were finalized."""
        store = ChainStore(self.base / "db", self.genesis)
        signer = None
        try:
            signer = Signer(self.base / "signer.json", ALICE.consensus_key, self.genesis.hash)
            pool, bus = TransactionPool(store, Mempool()), BlockBus()
            shell = ConsensusShell(self.make_parts(store, pool, signer, bus))
            for one in transactions:
                pool.submit(one)
            return await _run_for(shell, bus, blocks)
        finally:
            if signer is not None:
                signer.close()
            store.close()

    def make_parts(self, store: ChainStore, pool: TransactionPool, signer: Signer | None, bus: BlockBus) -> ShellParts:
        """The shell's parts on this directory."""
        clock = iter(range(10**15))
        start_ms = store.get_head().time_ms
        return ShellParts(
            store=store,
            pool=pool,
            signer=signer,
            gossip=self.gossip,
            bus=bus,
            wal_path=self.base / "consensus.wal",
            block_interval_ms=INTERVAL_MS,
            now_ms=lambda: start_ms + 1 + next(clock),
        )


async def _run_for(shell: ConsensusShell, bus: BlockBus, blocks: int) -> list[int]:
    heights: list[int] = []
    async with trio.open_nursery() as nursery, bus.subscribe() as channel:
        nursery.start_soon(shell.run)
        with trio.fail_after(20):
            for _ in range(blocks):
                heights.append((await channel.receive()).head.height)
        nursery.cancel_scope.cancel()
    return heights


@contextmanager
def crash_at(write: int, *, is_done: bool, keeps_unsynced: bool) -> Iterator[list[str]]:
    """Crash at durable write number `write`: after it when `is_done`, else before. Yields the writes seen by name.

    Unsynced bytes of the log are lost unless `keeps_unsynced`: both happen when a machine stops.
    """
    seen: list[str] = []

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            seen.append(name)
            if len(seen) == write and not is_done:
                raise Crashed
            result = function(*args)
            if len(seen) == write:
                raise Crashed
            return result

        return wrapped

    def close(wal: Wal) -> None:
        """What a stopped machine leaves of a file's buffer."""
        if not keeps_unsynced and 0 < write <= len(seen):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, wal._file.fileno())
            os.close(devnull)
        wal._file.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wal, "sync", wrap("log sync", Wal.sync))
        patch.setattr(Wal, "truncate", wrap("log truncation", Wal.truncate))
        patch.setattr(Wal, "close", close)
        patch.setattr(signer_module, "write_synced", wrap("signer history", signer_module.write_synced))
        patch.setattr(ChainStore, "commit_block", wrap("block", ChainStore.commit_block))
        yield seen
