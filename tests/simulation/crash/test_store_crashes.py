"""Snapshot export and import, giving up history and pruning at once, cut at every write: done again, it is done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from node.store import chain_store, snapshot_format, snapshot_import
from node.store.chain_store import ChainStore, Head, Retention
from node.store.check import check_database
from node.store.snapshot_export import export_snapshot
from node.store.snapshot_format import MANIFEST_NAME, SnapshotError, load_manifest
from node.store.snapshot_import import import_snapshot
from proto_specs.types.chain import Transaction
from tests.simulation.crash.images import Image, Recorder, record_writes
from tests.unit.node.store.test_history import check_view, grow
from tests.unit.node.store.test_snapshot import ignore
from tests.unit.node.world import World, make_genesis

BLOCKS = 12
PID_OF_NOBODY = 2**22 + 1


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A chain with all its history, and steps so small that there are many."""
    monkeypatch.setattr(snapshot_format, "CHUNK_BYTES", 1_000)
    monkeypatch.setattr(snapshot_import, "_BATCH_PAGES", 10)
    monkeypatch.setattr(chain_store, "FORGOTTEN_ROWS", 7)
    base = tmp_path / "node"
    base.mkdir()
    made = World(base / "db", retention=Retention(state_blocks=None))
    grow(made, BLOCKS)
    return made


def check(path: Path, height: int) -> None:
    """Nothing is wrong, and the head is there."""
    report = check_database(path, make_genesis(), ignore)
    assert (report.problems, report.height) == ([], height)


def restart(image: Image, scratch: Path) -> Path:
    """What a restarted process finds."""
    return Path(shutil.copytree(image.path, scratch / "node"))


def test_an_import_cut_at_any_write_leaves_none_or_all_and_is_done_again(
    world: World, tmp_path: Path, scratch: Path
) -> None:
    export_snapshot(world.path, world.genesis, tmp_path / "snapshot", ignore)
    world.store.close()
    recorder = Recorder(tmp_path / "other", tmp_path / "images", torn=2)
    (tmp_path / "other").mkdir()
    with record_writes(recorder):
        import_snapshot(tmp_path / "snapshot", tmp_path / "other" / "db", world.genesis, ignore)
    assert {"batch", "rename to db", "sync of directory other"} <= set(recorder.seen)
    assert len(recorder.taken) > 15
    done = 0
    for image in recorder.taken:
        base = restart(image, scratch)
        if (base / "db").exists():
            done += 1
            with pytest.raises(SnapshotError, match="exists"):
                import_snapshot(tmp_path / "snapshot", base / "db", world.genesis, ignore)
        else:
            assert import_snapshot(tmp_path / "snapshot", base / "db", world.genesis, ignore) == world.head
        assert [one.name for one in base.iterdir()] == ["db"], image.about
        check(base / "db", BLOCKS)
        shutil.rmtree(base)
    assert done, "the last images have the database"


def test_an_export_cut_at_any_write_leaves_none_or_all_and_is_done_again(
    world: World, tmp_path: Path, scratch: Path
) -> None:
    world.store.close()
    base = world.path.parent
    recorder = Recorder(base, tmp_path / "images", torn=2)
    with record_writes(recorder):
        whole = export_snapshot(world.path, world.genesis, base / "snapshot", ignore)
    assert recorder.seen.count("sync of manifest.partial") == 1
    assert len(recorder.taken) > 12
    for image in recorder.taken:
        node = restart(image, scratch)
        for left in node.glob("db.checkpoint-*"):
            left.rename(node / f"db.checkpoint-{PID_OF_NOBODY}")
        target = node / "snapshot"
        if not target.exists():
            with pytest.raises(SnapshotError, match="no snapshot"):
                load_manifest(target)
            assert export_snapshot(node / "db", world.genesis, target, ignore) == whole
        assert load_manifest(target) == whole, image.about
        assert len(list(target.iterdir())) == len(whole.chunks) + 1, image.about
        assert (target / MANIFEST_NAME).exists()
        assert {one.name for one in node.iterdir()} - {f"db.checkpoint-{PID_OF_NOBODY}"} == {"db", "snapshot"}
        export_snapshot(node / "db", world.genesis, node / "again", ignore)
        assert {one.name for one in node.iterdir()} == {"db", "snapshot", "again"}, "no copy is left behind"
        check(node / "db", BLOCKS)
        shutil.rmtree(node)


def test_history_given_up_and_cut_at_any_write_gives_no_false_answer_and_is_given_up_again(
    world: World, tmp_path: Path, scratch: Path
) -> None:
    recorder = Recorder(world.path.parent, tmp_path / "images", torn=2)
    with record_writes(recorder):
        world.store.forget_history()
    assert recorder.seen.count("batch") > 12
    head = world.head
    for image in recorder.taken:
        node = restart(image, scratch)
        store = ChainStore(node / "db", world.genesis, Retention(state_blocks=None))
        if store.oldest_state:
            assert (store.oldest_state, store.get_head()) == (BLOCKS, head)
        store.forget_history()
        store.close()
        check(node / "db", BLOCKS)
        shutil.rmtree(node)
    world.store.close()


def test_pruning_of_an_archive_cut_at_any_write_goes_on_as_if_uncut(
    world: World, tmp_path: Path, scratch: Path
) -> None:
    """All that a smaller retention lets go at once, and a compaction over it."""
    world.reopen(Retention(state_blocks=2))
    recorder = Recorder(world.path.parent, tmp_path / "images", torn=4)
    with record_writes(recorder):
        past = grow(world, 3, seed=7)[1:]
        world.store.compact()
    transactions = {height: _get_transactions(world, height) for height in range(BLOCKS + 1, BLOCKS + 4)}
    heads = {head.height: (head, state) for head, state in past}
    heights = set()
    for image in recorder.taken:
        node = World(restart(image, scratch) / "db", retention=Retention(state_blocks=2))
        heights.add(node.head.height)
        for height in range(node.head.height + 1, BLOCKS + 4):
            node.add_block(transactions[height])
        assert node.head == world.head, image.about
        for height in range(BLOCKS + 1, BLOCKS + 4):
            check_view(node, *heads[height])
        assert node.store.oldest_state == world.store.oldest_state == BLOCKS + 1
        node.store.close()
        check(node.path, BLOCKS + 3)
        shutil.rmtree(node.path.parent)
    assert heights == set(range(BLOCKS, BLOCKS + 4))
    world.store.close()


def _get_transactions(world: World, height: int) -> tuple[Transaction, ...]:
    block = world.store.get_block(height)
    assert block is not None
    return block.transactions


def test_the_head_is_whole_in_every_image_of_a_first_start(tmp_path: Path, scratch: Path) -> None:
    """The genesis is one batch: a node that never came to it writes it again."""
    base = tmp_path / "node"
    base.mkdir()
    recorder = Recorder(base, tmp_path / "images", torn=4)
    with record_writes(recorder):
        world = World(base / "db")
    first: Head = world.head
    world.store.close()
    for image in recorder.taken:
        again = World(restart(image, scratch) / "db")
        assert again.head == first
        again.store.close()
        shutil.rmtree(again.path.parent)
