"""Snapshots: exported from a running node, imported with the same root and gone on from; what is false is refused."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consensus.bft.commit import compute_commit_sign_bytes
from consensus.state.tree import verify_proof
from node.store import snapshot_format
from node.store.chain_store import Retention, StateUnavailable
from node.store.database import Database, DatabaseError
from node.store.snapshot_export import export_snapshot
from node.store.snapshot_format import (
    MANIFEST_NAME,
    SnapshotChunk,
    SnapshotError,
    SnapshotItem,
    SnapshotManifest,
    get_chunk_path,
    hash_chunk,
    load_manifest,
    save_manifest,
)
from node.store.snapshot_import import import_snapshot
from proto_specs.codec import decode, encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import ValidatorSet, compute_block_hash, compute_validators_hash
from tests.unit.node.store.test_history import grow
from tests.unit.node.world import BOB, World, make_commit


def ignore(what: str, done: int, total: int) -> None:
    """Nobody watches."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A running node with a little history, and chunks so small that there are many."""
    monkeypatch.setattr(snapshot_format, "CHUNK_BYTES", 1_000)
    made = World(tmp_path / "db")
    grow(made, 12, per_block=6)
    return made


def export(world: World, target: Path, height: int | None = None) -> SnapshotManifest:
    return export_snapshot(world.path, world.genesis, target, ignore, height)


def fill(world: World, source: Path, base: Path, trusted: bytes | None = None) -> World:
    """A node of the same chain that begins with a snapshot."""
    import_snapshot(source, base / "db", world.genesis, ignore, trusted)
    return World(base / "db", world.genesis)


@pytest.fixture
def snapshot(world: World, tmp_path: Path) -> Path:
    export(world, tmp_path / "snapshot")
    return tmp_path / "snapshot"


def test_a_node_goes_on_from_a_snapshot_with_equal_roots(world: World, snapshot: Path, tmp_path: Path) -> None:
    assert len(load_manifest(snapshot).chunks) > 3
    made = fill(world, snapshot, tmp_path / "other")
    assert made.head == world.head
    assert made.dump() == world.dump()
    for key, value in world.dump().items():
        assert verify_proof(world.head.state_root, key, value, made.store.prove(key))
    for _ in range(5):
        nonce = world.pool.get_next_nonce(BOB.account)
        done = world.add_block([world.transfer(nonce, BOB)])
        assert made.add_block(done.block.transactions).block == done.block
    assert made.head == world.head
    assert (made.store.oldest_state, made.store.oldest_body) == (12, 13)
    assert made.store.view_at(12).get_head() == world.store.view_at(12).get_head()
    made.reopen(Retention(state_blocks=2))
    grow(made, 2)
    with pytest.raises(StateUnavailable):
        made.store.view_at(12)


def test_a_kept_height_is_exported_like_a_head(world: World, tmp_path: Path) -> None:
    export(world, tmp_path / "snapshot", height=7)
    made = fill(world, tmp_path / "snapshot", tmp_path / "other")
    view = world.store.view_at(7)
    assert made.head == view.get_head()
    assert made.dump() == dict(view.iterate(b""))
    for height in range(8, 13):
        block = world.store.get_block(height)
        assert block is not None
        assert made.add_block(block.transactions, now_ms=block.header.time_ms).block == block


def test_two_exports_of_one_height_are_the_same_bytes(world: World, tmp_path: Path) -> None:
    for name in ("first", "second"):
        export(world, tmp_path / name, height=12)
        grow(world, 1)
    for one in (tmp_path / "first").iterdir():
        assert one.read_bytes() == (tmp_path / "second" / one.name).read_bytes()


def test_the_node_runs_on_while_its_files_are_read(world: World, tmp_path: Path) -> None:
    """Blocks come between the chunks; the snapshot stays at its moment."""
    before = world.head

    def add_block(what: str, done: int, total: int) -> None:
        if world.head.height < 20:
            grow(world, 1)

    manifest = export_snapshot(world.path, world.genesis, tmp_path / "snapshot", add_block)
    assert world.head.height > before.height
    assert manifest.header.height == before.height
    assert fill(world, tmp_path / "snapshot", tmp_path / "other").head == before
    assert not list(tmp_path.glob("*checkpoint*"))


def test_what_cannot_be_exported_says_why(world: World, tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable):
        export(world, tmp_path / "snapshot", height=99)
    with pytest.raises(SnapshotError, match="no block yet"):
        export(world, tmp_path / "snapshot", height=0)
    with pytest.raises(DatabaseError, match="no database"):
        export_snapshot(tmp_path / "nothing", world.genesis, tmp_path / "snapshot", ignore)
    assert not list(tmp_path.glob("snapshot*"))
    (tmp_path / "snapshot").mkdir()
    with pytest.raises(SnapshotError, match="exists"):
        export(world, tmp_path / "snapshot")


def rewrite(snapshot: Path, change: Callable[[SnapshotManifest], SnapshotManifest]) -> None:
    """A manifest somebody tampered with."""
    save_manifest(snapshot, change(load_manifest(snapshot)))


def rewrite_items(snapshot: Path, change: Callable[[list[SnapshotItem]], list[SnapshotItem]]) -> None:
    """Another first chunk, whose hash the manifest names."""
    path = get_chunk_path(snapshot, 0)
    before = list(decode(SnapshotChunk, path.read_bytes()).items)
    after = change(list(before))
    path.write_bytes(encode(SnapshotChunk(tuple(after))))
    digest = hash_chunk(path.read_bytes())
    rewrite(
        snapshot,
        lambda found: dataclasses.replace(
            found, chunks=(digest, *found.chunks[1:]), items=found.items + len(after) - len(before)
        ),
    )


def forge_validators(found: SnapshotManifest) -> SnapshotManifest:
    """Mallory's own validators sign mallory's own header."""
    validators = ValidatorSet((dataclasses.replace(found.deciders.members[0], key=BOB.consensus_key.public_key),))
    header = dataclasses.replace(found.header, validators_hash=compute_validators_hash(validators))
    commit = make_commit(found.genesis, header.height, compute_block_hash(header))
    signature = BOB.consensus_key.sign(
        Tag.VOTE_SIGN,
        compute_commit_sign_bytes(commit, found.genesis),
    )
    signed = dataclasses.replace(commit.signatures[0], validator=BOB.consensus_key.public_key, signature=signature)
    return dataclasses.replace(
        found, header=header, deciders=validators, commit=dataclasses.replace(commit, signatures=(signed,))
    )


LIES: dict[str, tuple[Callable[[SnapshotManifest], SnapshotManifest], str]] = {
    "genesis": (lambda one: dataclasses.replace(one, genesis=bytes(32)), "is of the chain"),
    "header": (
        lambda one: dataclasses.replace(one, header=dataclasses.replace(one.header, state_root=bytes(32))),
        "commit of block 12 does not hold",
    ),
    "deciders": (lambda one: dataclasses.replace(one, deciders=ValidatorSet(())), "not those its header names"),
    "commit": (
        lambda one: dataclasses.replace(one, commit=dataclasses.replace(one.commit, signatures=())),
        "does not hold",
    ),
    "validators": (forge_validators, "changed since genesis.*--trust-hash"),
    "priorities": (lambda one: dataclasses.replace(one, priorities=b"1"), "priorities are not those"),
    "items": (lambda one: dataclasses.replace(one, items=one.items + 1), "its manifest says"),
    "chunks": (lambda one: dataclasses.replace(one, chunks=one.chunks[:-1]), "its manifest says"),
    "format": (lambda one: dataclasses.replace(one, format=9), "format 9"),
}


@pytest.mark.parametrize("lie", list(LIES))
def test_a_false_manifest_is_refused_and_leaves_nothing(world: World, snapshot: Path, tmp_path: Path, lie: str) -> None:
    change, said = LIES[lie]
    rewrite(snapshot, change)
    check_refused(world, snapshot, tmp_path, said)


def test_every_field_of_the_manifest_has_its_lie() -> None:
    assert {one.name for one in dataclasses.fields(SnapshotManifest)} <= LIES.keys()


ITEM_LIES: dict[str, tuple[Callable[[list[SnapshotItem]], list[SnapshotItem]], str]] = {
    "one value": (
        lambda items: [dataclasses.replace(items[0], value=items[0].value + b"\0"), *items[1:]],
        "the snapshot is false",
    ),
    "one item less": (lambda items: items[1:], "the snapshot is false"),
    "one item more": (lambda items: [SnapshotItem(b"a", b""), *items], "the snapshot is false"),
    "out of order": (lambda items: items[::-1], "does not rise"),
    "one item twice": (lambda items: [items[0], *items], "does not rise"),
}


@pytest.mark.parametrize("lie", list(ITEM_LIES))
def test_false_items_are_refused_and_leave_nothing(world: World, snapshot: Path, tmp_path: Path, lie: str) -> None:
    change, said = ITEM_LIES[lie]
    rewrite_items(snapshot, change)
    check_refused(world, snapshot, tmp_path, said)


def test_damaged_or_missing_files_are_named(world: World, snapshot: Path, tmp_path: Path) -> None:
    path = get_chunk_path(snapshot, 2)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    check_refused(world, snapshot, tmp_path, "00002.chunk is damaged")
    path.unlink()
    check_refused(world, snapshot, tmp_path, "00002.chunk is missing")
    manifest = snapshot / MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes()[:-1])
    check_refused(world, snapshot, tmp_path, "manifest is damaged")
    manifest.unlink()
    check_refused(world, snapshot, tmp_path, "holds no snapshot")


def test_a_snapshot_of_another_format_is_named_as_that(world: World, snapshot: Path, tmp_path: Path) -> None:
    encoded = encode(dataclasses.replace(load_manifest(snapshot), format=2))
    (snapshot / MANIFEST_NAME).write_bytes(encoded + hash_tagged(Tag.CHUNK, encoded))
    check_refused(world, snapshot, tmp_path, "has format 2, this release reads 3")


def check_refused(world: World, snapshot: Path, tmp_path: Path, said: str) -> None:
    """With that reason, and nothing is left to start a node from."""
    base = tmp_path / "refused"
    base.mkdir(exist_ok=True)
    with pytest.raises(SnapshotError, match=said):
        import_snapshot(snapshot, base / "db", world.genesis, ignore)
    assert list(base.iterdir()) == []


def test_a_block_hash_of_the_operators_stands_for_genesis(world: World, snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="not the one you trust"):
        import_snapshot(snapshot, tmp_path / "other" / "db", world.genesis, ignore, bytes(32))
    block_hash = world.head.block_hash
    rewrite(snapshot, forge_validators)
    with pytest.raises(SnapshotError, match="not the one you trust"):
        import_snapshot(snapshot, tmp_path / "other" / "db", world.genesis, ignore, block_hash)
    shutil.rmtree(snapshot)
    export(world, snapshot)
    assert fill(world, snapshot, tmp_path / "other", block_hash).head == world.head


class Killed(BaseException):
    """The process is gone."""


def test_an_import_cut_at_any_write_leaves_no_database_and_is_done_again(
    world: World, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, cut_at = tmp_path / "cut" / "db", 1
    while is_killed(world, snapshot, database, cut_at, monkeypatch):
        assert not database.exists()
        cut_at += 1
    assert cut_at > 6
    assert World(database, world.genesis).head == world.head
    with pytest.raises(SnapshotError, match="exists"):
        import_snapshot(snapshot, database, world.genesis, ignore)


def is_killed(world: World, snapshot: Path, database: Path, cut_at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Import, killed at write number `cut_at`; whether it came to that."""
    writes, write, remove = [0], Database.write, shutil.rmtree

    def cut(self: Database, items: Any) -> None:
        writes[0] += 1
        if writes[0] == cut_at:
            raise Killed
        write(self, items)

    def tidy(path: Path, **rest: Any) -> None:
        """A killed process tidies nothing away."""
        if writes[0] < cut_at:
            remove(path, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", cut)
        patch.setattr("shutil.rmtree", tidy)
        try:
            import_snapshot(snapshot, database, world.genesis, ignore)
        except Killed:
            return True
    return False
