"""Weights between real hosts: fetched whole from those who have them, whoever else lies, leaves or lacks some."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from inference.model.importing import import_model
from inference.model.store import ShardStore, compute_file_root
from node.p2p.errors import RequestRefused
from node.p2p.host import P2PHost, open_host
from node.p2p.request import request
from node.transfer.shards import fetch as fetch_module
from node.transfer.shards.errors import FetchFailed
from node.transfer.shards.fetch import ShardFetcher, connect_any, select_units
from node.transfer.shards.serve import ShardCatalog, serve_shards
from proto_specs.codec import encode
from proto_specs.limits import CHUNK_BYTES
from proto_specs.types.manifest import Manifest, Unit, UnitKind
from proto_specs.types.shard_wire import SHARD_PROTOCOL, AskLeaves, AskPiece, ShardPart, ShardRequest
from tests.unit.inference import tiny

LISTEN = ["/ip4/127.0.0.1/tcp/0"]
LARGE = 5 * CHUNK_BYTES + 7


@dataclass
class Origin:
    """A stored model whose layers are of several chunks."""

    store: ShardStore
    manifest: Manifest
    model: bytes

    def copy(self, root: Path) -> ShardStore:
        """The same model in another store, its own files."""
        store = ShardStore(root)
        store.save_manifest(self.manifest)
        for unit in self.manifest.units:
            data = self.store.get_unit_path(self.model, unit).read_bytes()
            store.get_unit_path(self.model, unit).write_bytes(data)
        return store


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    root, dice = tmp_path_factory.mktemp("origin"), random.Random(7)
    path = tiny.write_gguf(root / "tiny.gguf", tiny.make_weights())
    small = import_model(path, root / "small", lambda done, total: None)
    store, units = ShardStore(root / "models"), []
    for unit in small.units:
        size = LARGE if unit.kind == UnitKind.LAYER else 1_000
        (root / "data").write_bytes(dice.randbytes(size))
        units.append(Unit(unit.kind, unit.index, size, compute_file_root(root / "data"), ()))
    manifest = dataclasses.replace(small, units=tuple(units))
    model, dice = store.save_manifest(manifest), random.Random(7)
    for unit in units:
        store.get_unit_path(model, unit).write_bytes(dice.randbytes(unit.bytes_total))
        store.verify_unit(model, unit)
    return Origin(store, manifest, model)


async def fetch(origin: Origin, target: ShardStore, stores: list[ShardStore], units: tuple[Unit, ...]) -> list[int]:
    """Into `target` from one host for each store; the progress."""
    seen: list[int] = []
    failure: FetchFailed | None = None
    async with trio.open_nursery() as nursery:
        servers: list[P2PHost] = []

        async def serve(number: int, store: ShardStore, task_status: Any) -> None:
            async with open_host(bytes(31) + bytes([number]), LISTEN) as host:
                serve_shards(host, ShardCatalog(store))
                servers.append(host)
                task_status.started()
                await trio.sleep_forever()

        for number, store in enumerate(stores, 1):
            await nursery.start(serve, number, store)
        async with open_host(bytes(31) + b"\x63", []) as host:
            peers = await connect_any(host, [tuple(one.addresses) for one in servers])
            with trio.fail_after(30):
                fetcher = ShardFetcher(host, peers, target, origin.model)
                try:
                    await fetcher.fetch(units, lambda done, total: seen.append(done))
                except FetchFailed as error:
                    failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return seen


async def test_a_model_comes_whole_from_several(origin: Origin, tmp_path: Path) -> None:
    target = ShardStore(tmp_path)
    target.save_manifest(origin.manifest)
    seen = await fetch(origin, target, [origin.store, origin.store], origin.manifest.units)
    for unit in origin.manifest.units:
        target.verify_unit(origin.model, unit)
    assert seen == sorted(seen)
    assert seen[-1] == sum(unit.bytes_total for unit in origin.manifest.units)
    assert not [one for one in target.get_directory(origin.model).iterdir() if one.name.startswith(".")]


def test_the_bytes_of_a_request() -> None:
    assert encode(AskLeaves(bytes(32), 1, 7), ShardRequest).hex() == f"9401c420{'00' * 32}0107"
    assert encode(AskPiece(bytes(32), 1, 7, 300), ShardRequest).hex() == f"9502c420{'00' * 32}0107cd012c"
    assert encode(ShardPart(None)).hex() == "91c0"


def test_a_range_needs_its_layers_and_the_ends(origin: Origin) -> None:
    names = [(UnitKind(unit.kind).name, unit.index) for unit in select_units(origin.manifest, (1, 2))]
    assert names == [("LAYER", 1), ("TOKENIZER", 0), ("CHAT_TEMPLATE", 0), ("GOLDEN", 1), ("GOLDEN", 2)]
    assert ("EMBED", 0) in [(UnitKind(unit.kind).name, unit.index) for unit in select_units(origin.manifest, (0, 1))]
    with pytest.raises(FetchFailed, match="has layers 0:3, not 0:9"):
        select_units(origin.manifest, (0, 9))


def damage_quietly(store: ShardStore, model: bytes, unit: Unit) -> None:
    """After its catalog has hashed it: what it serves from then on is false."""
    data = bytearray(store.get_unit_path(model, unit).read_bytes())
    for at in range(0, len(data), CHUNK_BYTES):
        data[at] ^= 1
    store.get_unit_path(model, unit).write_bytes(data)


LIES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda chunk: bytes([chunk[0] ^ 1]) + chunk[1:],
    "short": lambda chunk: chunk[:-1],
    "long": lambda chunk: chunk + b"\0",
    "empty": lambda _chunk: b"",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_who_serves_false_chunks_is_left_out_and_the_rest_comes_from_others(
    origin: Origin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lie: Callable[[bytes], bytes],
) -> None:
    liar, target = origin.copy(tmp_path / "liar"), ShardStore(tmp_path / "target")
    target.save_manifest(origin.manifest)
    layers = select_units(origin.manifest, (0, 3))
    whole: Callable[..., bytes | None] = ShardCatalog.find_part

    def find(catalog: ShardCatalog, asked: ShardRequest) -> bytes | None:
        found = whole(catalog, asked)
        if catalog._store is liar and isinstance(asked, AskPiece) and found:  # noqa: SLF001
            return lie(found)
        return found

    monkeypatch.setattr(ShardCatalog, "find_part", find)
    await fetch(origin, target, [liar, origin.store], layers)
    for unit in layers:
        target.verify_unit(origin.model, unit)
    assert "does not hash to its leaf" in caplog.text
    alone = ShardStore(tmp_path / "alone")
    alone.save_manifest(origin.manifest)
    with pytest.raises(FetchFailed, match=r"chunks of .* are missing.*does not hash to its leaf"):
        await fetch(origin, alone, [liar], layers)
    assert not any(alone.has_unit(origin.model, unit) for unit in layers)


async def test_what_was_fetched_before_is_not_asked_for_again(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, (unit, *_) = ShardStore(tmp_path), select_units(origin.manifest, (1, 2))
    target.save_manifest(origin.manifest)
    partial = target.get_unit_path(origin.model, unit).with_name(f".layer-{unit.index:03}.bin.fetching")
    data = origin.store.get_unit_path(origin.model, unit).read_bytes()
    partial.write_bytes(data[:CHUNK_BYTES] + bytes(CHUNK_BYTES) + data[2 * CHUNK_BYTES : 4 * CHUNK_BYTES - 1])
    asked: list[int] = []
    whole = fetch_module.ShardFetcher.make_request

    def note(fetcher: ShardFetcher, one: Unit, chunk: int) -> AskPiece:
        asked.append(chunk)
        return whole(fetcher, one, chunk)

    monkeypatch.setattr(fetch_module.ShardFetcher, "make_request", note)
    await fetch(origin, target, [origin.store], (unit,))
    target.verify_unit(origin.model, unit)
    assert sorted(asked) == [1, 3, 4, 5]


async def test_damaged_or_absent_weights_are_not_served(
    origin: Origin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, unit = origin.copy(tmp_path), origin.manifest.units[1]
    damage_quietly(store, origin.model, unit)
    catalog = ShardCatalog(store)
    for _ in range(2):
        assert catalog.find_part(AskLeaves(origin.model, unit.kind, unit.index)) is None
        assert catalog.find_part(AskPiece(origin.model, unit.kind, unit.index, 0)) is None
    assert caplog.text.count("is damaged") == 1
    assert catalog.find_part(AskLeaves(bytes(32), unit.kind, 0)) is None
    assert catalog.find_part(AskPiece(origin.model, UnitKind.LAYER, 9, 0)) is None
    assert catalog.find_part(AskPiece(origin.model, UnitKind.LAYER, 1, 6)) is None


async def test_garbage_is_refused(origin: Origin) -> None:
    async with open_host(bytes(31) + b"1", LISTEN) as server, open_host(bytes(31) + b"2", []) as host:
        serve_shards(server, ShardCatalog(origin.store))
        await host.connect(server.addresses[0])
        for body in (b"", b"garbage", encode(AskLeaves(origin.model, 9, 0), ShardRequest)):
            with pytest.raises(RequestRefused):
                await request(host, server.peer_id, SHARD_PROTOCOL, body)
        with pytest.raises(FetchFailed, match="nobody to fetch from"):
            await connect_any(host, [("/ip4/127.0.0.1/tcp/1/p2p/" + server.peer_id[:-1] + "x",)])
