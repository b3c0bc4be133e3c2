"""A fresh node joins a real chain by its snapshot, among peers that lie, stall, vanish or send nonsense."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from genesis.dev import build_dev_spec
from node.store import snapshot_format
from node.store.records import Head
from node.store.snapshot_format import SnapshotError, get_chunk_path
from node.sync.errors import JoinFailed
from node.sync.join import JoinTrust, join_by_snapshot, make_join_trust
from node.sync.partial import PartialSnapshot
from node.sync.server import SnapshotCatalog
from tests.unit.node.store.test_history import grow
from tests.unit.node.sync.providers import (
    Dreamer,
    EndlessChunks,
    LyingManifest,
    LyingPriorities,
    Network,
    OtherBlock,
    Provider,
    Staller,
    Vanishing,
    WrongChunks,
    make_catalog,
)
from tests.unit.node.world import World

PERIOD_MS = 3_600_000


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, SnapshotCatalog]:
    """A node with 14 blocks and snapshots of two, in many small chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_format, "CHUNK_BYTES", 500)
        directory = tmp_path_factory.mktemp("chain")
        world = World(directory / "db")
        grow(world, 14, per_block=6)
        return world, make_catalog(world, directory / "snapshots", 8, 12)


async def join(
    world: World, network: Network, database: Path, trust: JoinTrust | None = None, timeout_s: float = math.inf
) -> Head:
    def ignore(what: str, done: int, total: int) -> None:
        """Nobody watches."""

    return await join_by_snapshot(
        network=network,
        genesis=world.genesis,
        database=database,
        trust=trust or JoinTrust(PERIOD_MS, sources_min=min(2, len(network.providers))),
        now_ms=lambda: world.head.time_ms,
        progress=ignore,
        timeout_s=timeout_s,
    )


def check_joined(world: World, head: Head, database: Path) -> None:
    """It stands where the chain stood, and goes on with the chain's blocks."""
    made = World(database, world.genesis)
    assert made.head == head == world.store.view_at(12).get_head()
    for height in (13, 14):
        block = world.store.get_block(height)
        assert block is not None
        assert made.add_block(block.transactions, now_ms=block.header.time_ms).block == block
    made.store.close()
    assert [one.name for one in database.parent.iterdir()] == [database.name]


Chain = tuple[World, SnapshotCatalog]


@pytest.fixture
def mock_clock() -> MockClock:
    """Jumps when nothing has happened for a while: disk work in threads goes on without it noticing."""
    return MockClock(autojump_threshold=0.2)


async def test_a_fresh_node_joins_from_several_peers(chain: Chain, tmp_path: Path) -> None:
    world, catalog = chain
    network = Network(*(Provider(world, catalog) for _ in range(3)))
    head = await join(world, network, tmp_path / "db")
    check_joined(world, head, tmp_path / "db")
    served = [one.chunks_served for one in network.providers.values()]
    assert min(served) > 0
    assert sum(served) == len(catalog.held[0].manifest.chunks) > 6
    assert network.penalised == {}


BAD = [WrongChunks, EndlessChunks, Staller, Vanishing, LyingManifest, LyingPriorities, OtherBlock, Dreamer]


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("count", [1, 3])
async def test_bad_peers_cost_only_themselves(
    chain: Chain, tmp_path: Path, mock_clock: MockClock, kind: type[Provider], count: int
) -> None:
    """Even when they are more, and agree with each other."""
    world, catalog = chain
    network = Network(*(kind(world, catalog) for _ in range(count)), *(Provider(world, catalog) for _ in range(2)))
    began_s = trio.current_time()
    head = await join(world, network, tmp_path / "db")
    check_joined(world, head, tmp_path / "db")
    assert trio.current_time() - began_s < 90
    guilty = kind in (WrongChunks, LyingManifest, LyingPriorities, OtherBlock)
    good = list(network.providers)[-1]
    assert good not in network.penalised
    if count == 3 or kind is WrongChunks:
        assert (len(network.penalised) > 0) == guilty, network.penalised


async def test_nobody_good_is_no_join_and_says_what_came_of_it(
    chain: Chain, tmp_path: Path, mock_clock: MockClock
) -> None:
    world, catalog = chain
    with pytest.raises(JoinFailed, match="does not hash"):
        await join(world, Network(WrongChunks(world, catalog)), tmp_path / "db", timeout_s=4)
    with pytest.raises(JoinFailed, match="no peer offers"):
        await join(world, Network(), tmp_path / "db", timeout_s=4)
    assert not (tmp_path / "db").exists()


class Killed(Exception):
    """The process is gone."""


async def test_killed_in_mid_download_it_goes_on_where_it_was(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, catalog = chain
    save, saved = PartialSnapshot.save_chunk, list[int]()

    def cut(self: PartialSnapshot, index: int, data: bytes) -> None:
        if len(saved) == 4:
            raise Killed
        saved.append(index)
        save(self, index, data)

    with monkeypatch.context() as patch:
        patch.setattr(PartialSnapshot, "save_chunk", cut)
        with pytest.raises(ExceptionGroup):
            await join(world, Network(Provider(world, catalog)), tmp_path / "db")
    partial = tmp_path / "db.download"
    damaged = get_chunk_path(partial, saved[0])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    provider = Provider(world, catalog)
    head = await join(world, Network(provider), tmp_path / "db")
    check_joined(world, head, tmp_path / "db")
    assert provider.chunks_served == len(catalog.held[0].manifest.chunks) - 3


async def test_an_operators_block_above_or_below_the_snapshot_stands_for_genesis(chain: Chain, tmp_path: Path) -> None:
    world, catalog = chain
    for name, height in (("below", 5), ("same", 12), ("above", 14)):
        block_hash = world.store.get_block_hash(height)
        assert block_hash is not None
        (tmp_path / name).mkdir()
        trust = JoinTrust(PERIOD_MS, (height, block_hash), sources_min=2 if height >= 12 else 1)
        head = await join(world, Network(Provider(world, catalog)), tmp_path / name / "db", trust)
        check_joined(world, head, tmp_path / name / "db")


async def test_a_peer_without_the_operators_block_is_no_use_and_no_liar(
    chain: Chain, tmp_path: Path, mock_clock: MockClock
) -> None:
    world, catalog = chain
    network = Network(Provider(world, catalog))
    with pytest.raises(JoinFailed, match="not the one you trust"):
        await join(world, network, tmp_path / "db", JoinTrust(PERIOD_MS, (5, bytes(32))), 4)
    assert network.penalised == {}, "the hash may be the operator's mistake"


async def test_one_source_is_not_enough_unless_the_operator_says_so(
    chain: Chain, tmp_path: Path, mock_clock: MockClock
) -> None:
    """Whoever sees only its attacker sees no fork: by default two peers have to show the same block."""
    world, catalog = chain
    alone = Network(Provider(world, catalog))
    said = "could show you a chain of its own: name another with --peer ADDRESS, or accept one with --trust-one-source"
    with pytest.raises(JoinFailed, match=said):
        await join(world, alone, tmp_path / "db", JoinTrust(PERIOD_MS), 4)
    assert alone.penalised == {}, "being alone is no fault"
    head = await join(world, alone, tmp_path / "db", JoinTrust(PERIOD_MS, sources_min=1))
    check_joined(world, head, tmp_path / "db")


def test_the_trusting_period_is_the_chains() -> None:
    assert make_join_trust(build_dev_spec()) == JoinTrust(66_666)


async def test_trust_that_has_expired_joins_nothing(chain: Chain, tmp_path: Path, mock_clock: MockClock) -> None:
    world, catalog = chain
    with pytest.raises(JoinFailed, match="name a newer block"):
        await join(world, Network(Provider(world, catalog)), tmp_path / "db", JoinTrust(1_000), 4)


async def test_a_database_is_never_overwritten(chain: Chain, tmp_path: Path) -> None:
    world, catalog = chain
    (tmp_path / "db").mkdir()
    with pytest.raises(SnapshotError, match="exists"):
        await join(world, Network(Provider(world, catalog)), tmp_path / "db")
