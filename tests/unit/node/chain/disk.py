"""A validator on a real directory whose disk can fail before or after any one of its writes, as a crash would."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from consensus.bft.timeouts import Timeouts
from genesis.builder import Genesis, build_genesis
from genesis.dev import build_dev_spec
from node.chain.bus import BlockBus
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.p2p.acceptance import Acceptance
from node.replica.live import LiveWorld
from node.replica.replica import Replica, ReplicaParts
from node.replica.wal import DiskLog, Wal
from node.replica.wal_records import read_inputs
from node.replica.world import GossipMessage, Request, Response
from node.signatures.processes import SignatureProcesses
from node.signer import signer as signer_module
from node.signer.signer import Signer
from node.store.chain_store import ChainStore, FinalizedBlock
from proto_specs.types.chain import Evidence, ProposalHead, Transaction, Vote
from proto_specs.types.gossip import ProposalPart
from tests.unit.node.world import ALICE

INTERVAL_MS = 5
Blocks = trio.MemoryReceiveChannel[FinalizedBlock]


class Crashed(BaseException):
    """The machine stops here: nothing of the process runs on."""


@dataclass
class Gossip:
    """The network of a node without one: remembers what left the node."""

    sent: list[ProposalHead | Vote] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    def publish(self, message: GossipMessage) -> None:
        if isinstance(message, Vote):
            self.sent.append(message)
        elif isinstance(message, ProposalPart) and message.index == 0:
            self.sent.append(message.head)
        elif isinstance(message, Evidence):
            self.evidence.append(message)

    def list_peers(self) -> list[str]:
        return []

    async def request(self, peer: str, request: Request) -> Response | None:
        return None

    def penalise(self, peer: str, reason: str) -> None:
        pass


@dataclass
class Running:
    """A replica in its world."""

    replica: Replica
    world: LiveWorld

    async def run(self) -> None:
        await self.world.run(self.replica.start)


@dataclass
class Validator:
    """Alice's node, without network and RPC."""

    base: Path
    genesis: Genesis = field(default_factory=lambda: build_genesis(build_dev_spec(block_interval_ms=INTERVAL_MS)))
    gossip: Gossip = field(default_factory=Gossip)

    parts: ReplicaParts | None = None

    def __post_init__(self) -> None:
        Signer.initialise(self.base / "signer.json", ALICE.consensus_key, self.genesis.hash)

    @asynccontextmanager
    async def start(
        self, transactions: tuple[Transaction, ...] = (), interval_ms: int = INTERVAL_MS
    ) -> AsyncIterator[tuple[Replica, ChainStore, Blocks]]:
        """A node on what the disk holds, with these transactions submitted, running inside the block (20 s at most)."""
        store = ChainStore(self.base / "db", self.genesis)
        self.parts = signer = None
        try:
            signer = Signer(self.base / "signer.json", ALICE.consensus_key, self.genesis.hash)
            bus = BlockBus()
            parts = self.parts = self.make_parts(store, signer, bus, interval_ms)
            for one in transactions:
                parts.pool.submit(one)
            running = Running(Replica(parts), self.world)
            async with trio.open_nursery() as nursery, bus.subscribe() as blocks:
                nursery.start_soon(running.run)
                with trio.fail_after(20):
                    yield running.replica, store, blocks
                nursery.cancel_scope.cancel()
        finally:
            if self.parts is not None:
                self.parts.wal.close()
            if signer is not None:
                signer.close()
            store.close()

    async def run(self, blocks: int, transactions: tuple[Transaction, ...] = ()) -> list[int]:
        """Run for so many blocks; the heights that were finalized."""
        async with self.start(transactions) as (_, _, finalized):
            return [(await finalized.receive()).head.height for _ in range(blocks)]
        raise AssertionError("left by an error")

    def make_parts(
        self, store: ChainStore, signer: Signer | None, bus: BlockBus, interval_ms: int = INTERVAL_MS
    ) -> ReplicaParts:
        """A replica's parts on this directory, and a clock that rises by 1 ms a look."""
        clock = itertools.count(store.get_head().time_ms + 1)
        path = self.base / "consensus.wal"
        self.world = LiveWorld(self.gossip, SignatureProcesses(0), lambda: next(clock))
        return ReplicaParts(
            store=store,
            pool=TransactionPool(store, Mempool()),
            signer=signer,
            logged=read_inputs(path),
            wal=Wal(path),
            world=self.world,
            block_interval_ms=interval_ms,
            on_finalized=bus.publish,
            on_transactions=lambda _peer, _batch: Acceptance.IGNORE,
            timeouts=Timeouts(500, 100, 100, 100, 100, 100),
        )


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
        log = wal._log  # noqa: SLF001
        assert isinstance(log, DiskLog)
        if not keeps_unsynced and 0 < write <= len(seen):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, log.file.fileno())
            os.close(devnull)
        log.file.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wal, "sync", wrap("log sync", Wal.sync))
        patch.setattr(Wal, "truncate", wrap("log truncation", Wal.truncate))
        patch.setattr(Wal, "close", close)
        patch.setattr(signer_module, "write_synced", wrap("signer history", signer_module.write_synced))
        patch.setattr(ChainStore, "commit_block", wrap("block", ChainStore.commit_block))
        yield seen
