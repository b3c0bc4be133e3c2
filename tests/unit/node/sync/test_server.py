"""The catalog: what is kept and offered; snapshots made while blocks go on; and all of it between real hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from node.chain.bus import BlockBus
from node.full.light_server import serve_light_blocks
from node.p2p.errors import RequestRefused
from node.p2p.host import open_host
from node.p2p.request import request
from node.store import snapshot_format
from node.sync.join import JoinTrust, P2PSnapshots, join_by_snapshot
from node.sync.server import SnapshotCatalog, find_due_height, make_snapshots, serve_snapshots
from proto_specs.types.snapshot_wire import SNAPSHOT_PROTOCOL, AskChunk, AskManifest
from tests.unit.node.store.test_history import grow
from tests.unit.node.sync.providers import make_catalog
from tests.unit.node.sync.test_join import PERIOD_MS, check_joined
from tests.unit.node.world import World

LISTEN = ["/ip4/127.0.0.1/tcp/0"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(snapshot_format, "CHUNK_BYTES", 500)
    made = World(tmp_path / "node" / "db")
    grow(made, 14, per_block=3)
    return made


def test_the_newest_two_are_kept_and_found_again(world: World, tmp_path: Path) -> None:
    catalog = make_catalog(world, tmp_path / "catalog", 4, 8, 12)
    assert [one.height for one in catalog.list_offers().offers] == [12, 8]
    assert sorted(one.name for one in (tmp_path / "catalog").iterdir()) == ["000000000008", "000000000012"]
    (tmp_path / "catalog" / "000000000016.partial").mkdir()
    (tmp_path / "catalog" / "000000000008" / "manifest").write_bytes(b"damaged")
    again = SnapshotCatalog(tmp_path / "catalog", world.genesis)
    assert [one.height for one in again.list_offers().offers] == [12]
    assert [one.name for one in (tmp_path / "catalog").iterdir()] == ["000000000012"]


def test_two_nodes_offer_the_same_block_in_the_same_words(world: World, tmp_path: Path) -> None:
    assert make_catalog(world, tmp_path / "a", 8).list_offers() == make_catalog(world, tmp_path / "b", 8).list_offers()


def test_what_is_not_there_is_none(world: World, tmp_path: Path) -> None:
    catalog = make_catalog(world, tmp_path / "catalog", 8)
    (held,) = catalog.held
    assert catalog.find_part(AskManifest(held.manifest_hash)) == held.encoded
    assert catalog.find_part(AskManifest(bytes(32))) is None
    assert catalog.find_part(AskChunk(held.manifest_hash, len(held.manifest.chunks))) is None
    assert catalog.find_part(AskChunk(bytes(32), 0)) is None


def test_a_snapshot_is_due_once_its_block_has_a_child() -> None:
    due = [find_due_height(head, 0, 10) for head in (0, 1, 9, 10, 11, 20, 21)]
    assert due == [None, None, None, None, 10, 10, 20]
    assert find_due_height(15, 10, 10) is None


async def test_snapshots_are_made_while_blocks_go_on(world: World, tmp_path: Path) -> None:
    catalog, bus = SnapshotCatalog(tmp_path / "catalog", world.genesis), BlockBus()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_snapshots, world.store, bus, catalog, world.path, 5)
        with trio.fail_after(20):
            while catalog.newest_height < 20:
                bus.publish(world.add_block())
                await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(catalog.held) == 2


async def test_a_fresh_node_joins_over_real_connections(world: World, tmp_path: Path) -> None:
    catalog = make_catalog(world, tmp_path / "catalog", 12)
    penalised: list[str] = []
    async with open_host(bytes(31) + b"1", LISTEN) as one, open_host(bytes(31) + b"2", LISTEN) as two:
        for server in (one, two):
            serve_snapshots(server, catalog)
            serve_light_blocks(server, world.store)
        async with open_host(bytes(31) + b"3", []) as host:
            for server in (one, two):
                await host.connect(server.addresses[0])
            with pytest.raises(RequestRefused):
                await request(host, one.peer_id, SNAPSHOT_PROTOCOL, b"garbage")
            head = await join_by_snapshot(
                network=P2PSnapshots(host, lambda peer, reason: penalised.append(reason)),
                genesis=world.genesis,
                database=tmp_path / "fresh" / "db",
                trust=JoinTrust(PERIOD_MS),
                now_ms=lambda: world.head.time_ms,
                progress=lambda what, done, total: None,
                timeout_s=20,
            )
    check_joined(world, head, tmp_path / "fresh" / "db")
    assert penalised == []
