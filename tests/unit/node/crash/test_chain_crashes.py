"""A validator cut at every write of twelve blocks, with pruning and compaction on: the same chain, the same past."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from consensus.bft.timeouts import Timeouts
from node.chain.bus import BlockBus
from node.chain.consensus_shell import ConsensusShell, ShellParts
from node.chain.pool import TransactionPool
from node.mempool import Mempool
from node.signer import Signer
from node.store import chain_store, database, history
from node.store.chain_store import ChainStore, FinalizedBlock, Head, Retention, StateUnavailable
from node.store.check import check_database
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import Transaction
from tests.unit.node.chain.disk import Gossip, Validator
from tests.unit.node.chain.test_consensus_shell import check_signed_once
from tests.unit.node.crash.images import Image, Recorder, record_writes
from tests.unit.node.store.test_snapshot import ignore
from tests.unit.node.world import ALICE, MYL, sign_call

BLOCKS = 12
REFERENCE_BLOCKS = BLOCKS + 2
COMPACTED_AT = 8
STATES, BODIES = 3, 4
RESTARTED_OTHERWISE = range(5, 8)
"""Heights at which a restarted validator is also tempted to sign something else: pruning is on."""
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

    def make_parts(self, store: ChainStore, signer: Signer | None, bus: BlockBus, interval_ms: int = 1) -> ShellParts:
        parts = super().make_parts(store, signer, bus, interval_ms)
        step_ms = 1_000 if self.pool is FedPool else 1_500
        pool = self.pool(store, Mempool())
        pool.on_block = self.look
        return replace(
            parts,
            pool=pool,
            now_ms=lambda: store.get_head().time_ms + step_ms,
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
            shell = ConsensusShell(self.make_parts(store, signer, bus))
            async with trio.open_nursery() as nursery, bus.subscribe() as finalized:
                nursery.start_soon(shell.run)
                with trio.fail_after(20):
                    for _ in range(blocks):
                        await finalized.receive()
                nursery.cancel_scope.cancel()
        finally:
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


@pytest.fixture(scope="module", autouse=True)
def _small_limits() -> Iterator[None]:
    """Bodies are pruned within twelve blocks, and LevelDB makes tables meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "BODY_BLOCKS_MIN", BODIES)
        patch.setattr(chain_store, "compute_body_floor", lambda state: BODIES)
        patch.setattr(database, "WRITE_BUFFER_BYTES", 1 << 16)
        yield


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    base = tmp_path_factory.mktemp("crashes") / "node"
    base.mkdir()
    gossip = Gossip()
    recorder = Recorder(base, base.parent / "images", torn=4, get_mark=lambda: len(gossip.sent))
    validator = Steady(base, gossip=gossip)
    with record_writes(recorder):
        trio.run(validator.run_blocks, BLOCKS)
    trio.run(validator.run_blocks, REFERENCE_BLOCKS - max(validator.moments))
    return Story(recorder.taken, recorder.seen, gossip, validator.moments)


async def test_a_node_cut_at_any_write_goes_on_as_the_uncut_one(story: Story, scratch: Path) -> None:
    """On each image: the check finds nothing; the next two blocks, states and the kept past are those of the run."""
    assert len(story.images) > len(story.seen) > 5 * BLOCKS
    for image in story.images:
        base = Path(shutil.copytree(image.path, scratch / "node"))
        validator = Steady(base)
        height = check(base, validator, image)
        await validator.run_blocks(2)
        for reached in range(height + 1, height + 3):
            assert validator.moments[reached] == story.moments[reached], image.about
        shutil.rmtree(base)


def check(base: Path, validator: Steady, image: Image) -> int:
    """A check of everything. The height."""
    if not (base / "db").exists():
        return 0
    report = check_database(base / "db", validator.genesis, ignore)
    assert report.problems == [], image.about
    return report.height


def test_the_writes_are_all_there_are(story: Story) -> None:
    """What a node writes in a new way has to be seen by the recorder, or is missing here."""
    kinds = {re.sub(r"compaction of .|MANIFEST-\d+", lambda found: found[0][:9], one) for one in story.seen}
    assert kinds == {
        "batch",
        "compactio",
        "rename to MARK",
        "rename to signer.json",
        "sync of MANIFEST-",
        "sync of MARK",
        "sync of MARK.partial",
        "sync of consensus.wal",
        "sync of directory db",
        "sync of directory node",
        "sync of signer.json.partial",
        "the end",
        "truncation of consensus.wal",
    }
    assert story.seen.count("batch") == BLOCKS + 1


async def test_a_node_cut_at_any_write_signs_nothing_else(story: Story, scratch: Path) -> None:
    """Restarted where clock and transactions are others: what was signed before the cut still binds it."""
    tempted = 0
    for image in story.images:
        base = Path(shutil.copytree(image.path, scratch / "node"))
        gossip = Gossip(story.sent.sent[: image.mark])
        if gossip.sent and gossip.sent[-1].height in RESTARTED_OTHERWISE:
            tempted += 1
            validator = Steady(base, gossip=gossip, pool=OtherPool)
            await validator.run_blocks(1)
            check_signed_once(gossip)
            check(base, validator, image)
        shutil.rmtree(base)
    assert tempted > 30
