"""A validator whose blocks follow from their heights alone, and the story of twelve: what no crash changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from consensus.bft.timeouts import Timeouts
from node.chain.bus import BlockBus
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.replica.live import LiveWorld
from node.replica.replica import Replica, ReplicaParts
from node.signatures.processes import SignatureProcesses
from node.signer.signer import Signer
from node.store.chain_store import ChainStore, FinalizedBlock, Head, Retention, StateUnavailable
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import Transaction
from tests.simulation.crash.images import Image, Recorder, record_writes
from tests.unit.node.chain.disk import Gossip, Running, Validator
from tests.unit.node.world import ALICE, MYL, sign_call

BLOCKS = 12
REFERENCE_BLOCKS = BLOCKS + 2
COMPACTED_AT = 8
STATES, BODIES = 3, 4
PER_BLOCK = 3


class FedPool(TransactionPool):
    """Offers the transfers of each height, however often it is asked: every run builds the same blocks."""

    amount = MYL
    on_block: Callable[[ChainStore], None]

    def advance(self, finalized: FinalizedBlock) -> None:
        """The one moment between two blocks."""
        super().advance(finalized)
        self.on_block(self._store)

    def select(self) -> Iterator[Transaction]:
        head = self._store.get_head()
        for index in range(PER_BLOCK if head.height % 4 else 0):
            nonce = sum(PER_BLOCK for height in range(head.height) if height % 4) + index
            dest = bytes([(head.height * 7 + index) % 23 + 1]) * 32
            yield sign_call(self._store.genesis_hash, ALICE, nonce, Transfer(dest, self.amount))


class OtherPool(FedPool):
    """Offers other transfers."""

    amount = 2 * MYL


@dataclass
class Steady(Validator):
    """A validator whose blocks follow from the heights alone."""

    pool: type[FedPool] = FedPool
    moments: dict[int, Moment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.base / "signer.json").exists():
            super().__post_init__()

    def make_parts(self, store: ChainStore, signer: Signer | None, bus: BlockBus, interval_ms: int = 1) -> ReplicaParts:
        parts = super().make_parts(store, signer, bus, interval_ms)
        step_ms = 1_000 if self.pool is FedPool else 1_500
        pool = self.pool(store, Mempool())
        pool.on_block = self.look
        self.world = LiveWorld(self.gossip, SignatureProcesses(0), lambda: store.get_head().time_ms + step_ms)
        return replace(
            parts,
            pool=pool,
            world=self.world,
            timeouts=Timeouts(20_000, 500, 20_000, 500, 20_000, 500),
        )

    def look(self, store: ChainStore) -> None:
        """Note every kept state, and that nothing else is."""
        head, past = store.get_head(), {}
        for height in range(head.height + 1):
            try:
                view = store.view_at(height)
            except StateUnavailable:
                assert height < store.oldest_state
            else:
                past[height] = view.get_head(), dict(view.iterate(b""))
        oldest = (store.oldest_state, store.oldest_body)
        self.moments[head.height] = Moment(head, oldest, dict(store.iterate(b"")), past)
        if head.height == COMPACTED_AT:
            store.compact()

    async def run_blocks(self, blocks: int) -> None:
        """Run on what the disk holds for so many blocks, keeping little."""
        store, signer = ChainStore(self.base / "db", self.genesis, Retention(STATES, BODIES)), None
        try:
            signer, bus = Signer(self.base / "signer.json", ALICE.consensus_key, self.genesis.hash), BlockBus()
            parts = self.parts = self.make_parts(store, signer, bus)
            running = Running(Replica(parts), self.world)
            async with trio.open_nursery() as nursery, bus.subscribe() as finalized:
                nursery.start_soon(running.run)
                with trio.fail_after(20):
                    for _ in range(blocks):
                        await finalized.receive()
                nursery.cancel_scope.cancel()
        finally:
            if self.parts is not None:
                self.parts.wal.close()
            if signer is not None:
                signer.close()
            store.close()


@dataclass
class Moment:
    """What a node answers with its head at one height."""

    head: Head
    oldest: tuple[int, int]
    state: dict[bytes, bytes]
    past: dict[int, tuple[Head, dict[bytes, bytes]]]


@dataclass
class Story:
    """The uncut run: its images, and what it answered at each height."""

    images: list[Image]
    seen: list[str]
    sent: Gossip
    moments: dict[int, Moment] = field(default_factory=dict)


def tell_story(directory: Path) -> Story:
    """Run it once, with an image of each write."""
    base = directory / "node"
    base.mkdir()
    gossip = Gossip()
    recorder = Recorder(base, base.parent / "images", torn=4, get_mark=lambda: len(gossip.sent))
    validator = Steady(base, gossip=gossip)
    with record_writes(recorder):
        trio.run(validator.run_blocks, BLOCKS)
    trio.run(validator.run_blocks, REFERENCE_BLOCKS - max(validator.moments))
    return Story(recorder.taken, recorder.seen, gossip, validator.moments)
