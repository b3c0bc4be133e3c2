"""States behind the head: read, iterated, proven under the roots of their own headers, and pruned on time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from consensus.runtime.balances import state as balances
from consensus.state.tree import EMPTY_ROOT, update, verify_proof
from node.store import chain_store, database, history, retention
from node.store.chain_store import Head, Retention, StateUnavailable
from node.store.columns import Column
from node.store.database import Database
from node.store.history import compute_body_floor
from node.store.retention import BODY_BLOCKS_MIN
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import Transaction, compute_extrinsic_hash
from tests.unit.node.world import ALICE, MYL, World, sign_call

ARCHIVE = Retention(state_blocks=None)
HISTORY = (Column.STATE_WAS, Column.PAGE_WAS, Column.UNDO)
NOTHING = b"balances.account:nobody"


def grow(world: World, blocks: int, per_block: int = 3, seed: int = 1) -> list[tuple[Head, dict[bytes, bytes]]]:
    """Blocks of transfers to accounts old and new; head and state after each of them, the present one first."""
    dice, past = random.Random(seed), [(world.head, world.dump())]
    for _ in range(blocks):
        nonce = balances.read_account(world.store, ALICE.account).nonce
        made = []
        for index in range(dice.randrange(per_block + 1)):
            dest = bytes([dice.randrange(40)]) * 32
            made.append(make_transfer_to(world, nonce + index, dest))
        world.add_block(made)
        past.append((world.head, world.dump()))
    return past


def make_transfer_to(world: World, nonce: int, dest: bytes) -> Transaction:
    """A transfer of alice's to any account."""
    return sign_call(world.genesis.hash, ALICE, nonce, Transfer(dest, MYL))


def list_rows(world: World, *columns: Column) -> list[bytes]:
    """Keys of whole columns."""
    return [key for column in columns for key, _ in world.store._db.iterate(column.value)]  # noqa: SLF001


def check_view(world: World, head: Head, state: dict[bytes, bytes]) -> None:
    """Everything a view can be asked."""
    view = world.store.view_at(head.height)
    assert view.get_head() == head
    assert dict(view.iterate(b"")) == state
    assert list(view.iterate(b"")) == sorted(state.items())
    some = sorted(state)[len(state) // 2]
    assert list(view.iterate(b"", some)) == [(key, value) for key, value in sorted(state.items()) if key >= some]
    accounts = list(view.iterate(b"balances.account:"))
    assert accounts == [(key, value) for key, value in sorted(state.items()) if key.startswith(b"balances.account:")]
    for key in [*world.dump(), *state, NOTHING]:
        assert view.get(key) == state.get(key)
        assert verify_proof(head.state_root, key, state.get(key), view.prove(key))


@pytest.fixture
def archive(tmp_path: Path) -> World:
    return World(tmp_path / "archive", retention=ARCHIVE)


def test_every_state_of_an_archive_is_read_and_proven_under_its_own_root(archive: World) -> None:
    past = grow(archive, 30)
    archive.reopen()
    for head, state in past:
        check_view(archive, head, state)
    archive.store.close()


def test_pages_of_the_past_are_those_of_the_state_then(archive: World) -> None:
    past = grow(archive, 70, per_block=12)
    for head, state in past:
        view = archive.store.view_at(head.height)
        fresh = update(lambda path: None, EMPTY_ROOT, sorted(state.items()))
        assert fresh.root == head.state_root
        for path, page in fresh.node_writes.items():
            assert view.read_page(path) == page
        for path, _ in archive.store._db.iterate(Column.TREE.value):  # noqa: SLF001
            assert view.read_page(path[1:]) == fresh.node_writes.get(path[1:])
    archive.store.close()


def test_a_page_is_kept_whole_now_and_then_and_in_part_mostly(archive: World) -> None:
    grow(archive, 130)
    root = [value for key, value in archive.store._db.iterate(Column.PAGE_WAS.value) if len(key) == 9]  # noqa: SLF001
    whole = [one for one in root if one[:1] == b"\x01"]
    assert len(root) == 130
    assert 2 <= len(whole) < 130
    archive.store.close()


def test_a_view_of_the_past_is_unmoved_by_blocks_and_pruning(tmp_path: Path) -> None:
    world = World(tmp_path / "db", retention=Retention(state_blocks=3))
    past = grow(world, 5)
    head, state = past[3]
    view = world.store.view_at(3)
    grow(world, 9, seed=2)
    with pytest.raises(StateUnavailable):
        world.store.view_at(3)
    assert dict(view.iterate(b"")) == state
    assert view.get_head() == head
    assert all(verify_proof(head.state_root, key, value, view.prove(key)) for key, value in state.items())
    world.store.close()


def test_the_window_is_what_was_asked_for_and_the_error_says_so(tmp_path: Path) -> None:
    world = World(tmp_path / "db", retention=Retention(state_blocks=4))
    past = grow(world, 12)
    assert world.store.oldest_state == 8
    for head, state in past[8:]:
        check_view(world, head, state)
    for height in (0, 7):
        with pytest.raises(StateUnavailable, match="keeps the state after blocks 8 to 12; an archive node") as refused:
            world.store.view_at(height)
        assert (refused.value.height, refused.value.oldest, refused.value.newest) == (height, 8, 12)
    with pytest.raises(StateUnavailable, match="block 13 is not there yet"):
        world.store.view_at(13)
    assert {row[-8:] for row in list_rows(world, *HISTORY)} == {height.to_bytes(8, "big") for height in range(9, 13)}
    world.store.close()


def test_an_archive_that_becomes_pruned_prunes_gradually(archive: World) -> None:
    grow(archive, 40)
    archive.reopen(Retention(state_blocks=5))
    assert archive.store.oldest_state == 0, "nothing goes before a block comes"
    oldest = []
    while archive.store.oldest_state < archive.head.height - 5:
        past = grow(archive, 1)
        oldest.append(archive.store.oldest_state)
        check_view(archive, *past[1])
    assert oldest == [8, 16, 24, 32, 40]
    assert {row[-8:] for row in list_rows(archive, *HISTORY)} == {height.to_bytes(8, "big") for height in range(41, 46)}
    archive.store.close()


def test_a_pruned_node_that_becomes_an_archive_keeps_from_now_on(tmp_path: Path) -> None:
    world = World(tmp_path / "db", retention=Retention(state_blocks=3))
    grow(world, 10)
    world.reopen(ARCHIVE)
    past = grow(world, 10)
    assert world.store.oldest_state == 7
    for head, state in past:
        check_view(world, head, state)
    world.store.close()


def test_the_batch_of_a_block_prunes_no_more_than_it_may(archive: World, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(archive, 20)
    archive.reopen(Retention(state_blocks=1))
    monkeypatch.setattr(history, "PRUNED_ROWS_MAX", 1)
    grow(archive, 3)
    assert archive.store.oldest_state == 3, "one block's worth at least"
    archive.store.close()


def test_bodies_go_when_they_age_out_and_headers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (history, retention):
        monkeypatch.setattr(module, "BODY_BLOCKS_MIN", 3)
    monkeypatch.setattr(chain_store, "compute_body_floor", lambda state: 3)
    world = World(tmp_path / "db", retention=Retention(state_blocks=2, body_blocks=3))
    done = [world.add_block([world.transfer(nonce)]) for nonce in range(8)]
    store = world.store
    assert store.oldest_body == 5
    for height, one in enumerate(done, start=1):
        is_kept = height >= 5
        assert store.get_header(height) == one.block.header
        assert store.get_commit(height) == one.commit
        assert (store.get_block(height) == one.block) is is_kept
        assert (store.get_receipts(height) is not None) is is_kept
        assert (store.find_extrinsic(compute_extrinsic_hash(one.block.transactions[0])) is not None) is is_kept
    assert len(list_rows(world, Column.EXTRINSIC)) == len(list_rows(world, Column.EXTRINSICS)) == 4
    store.close()


@pytest.mark.parametrize("wrong", [{"state_blocks": 0}, {"body_blocks": BODY_BLOCKS_MIN - 1}])
def test_a_window_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="block"):
        Retention(**wrong)


def test_old_values_are_not_read_again(archive: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """History costs writes, no reads: storing a block asks the database for nothing."""
    done = archive.finalize(archive.build([archive.transfer(0)]))
    reads: list[bytes] = []
    monkeypatch.setattr(Database, "get", lambda self, key: reads.append(key))
    archive.store.commit_block(done)
    assert reads == []
    monkeypatch.undo()
    archive.store.close()


def test_compaction_falls_due_by_what_was_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.store.chain_store.COMPACT_ROWS", 100)
    world = World(tmp_path / "db", retention=Retention(state_blocks=1))
    assert not world.store.is_compaction_due
    grow(world, 20)
    due = [world.store.is_compaction_due]
    world.store.compact()
    due.append(world.store.is_compaction_due)
    assert due == [True, False]
    world.store.close()


def test_bodies_are_kept_while_anybody_can_still_ask_about_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The development chain's workers keep what they may have to open for 10,000 blocks: so do bodies, then."""
    for module in (history, retention):
        monkeypatch.setattr(module, "BODY_BLOCKS_MIN", 3)
    world = World(tmp_path / "db", retention=Retention(body_blocks=3))
    assert compute_body_floor(world.store) == 10_000
    grow(world, 12)
    assert world.store.oldest_body == 1
    world.store.close()


def test_the_directory_stops_growing_under_constant_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (history, retention):
        monkeypatch.setattr(module, "BODY_BLOCKS_MIN", 5)
    monkeypatch.setattr(chain_store, "compute_body_floor", lambda state: 5)
    monkeypatch.setattr(database, "WRITE_BUFFER_BYTES", 1 << 16)
    sizes: dict[str, list[int]] = {}
    for name, kept in (("all", ARCHIVE), ("few", Retention(state_blocks=5, body_blocks=5))):
        world = World(tmp_path / name, retention=kept)
        sizes[name] = []
        for batch in range(6):
            grow_evenly(world, 30)
            world.store.compact()
            sizes[name].append(measure_directory(tmp_path / name))
            assert world.head.height == 30 * (batch + 1)
        world.store.close()
    grown = {name: one[-1] - one[1] for name, one in sizes.items()}
    assert grown["all"] > 1_000_000, "an archive grows"
    assert grown["few"] < grown["all"] / 8, "headers and commits stay, some 1 KB a block"


def grow_evenly(world: World, blocks: int) -> None:
    """The same load in every block: 20 transfers among 200 accounts."""
    for _ in range(blocks):
        nonce = balances.read_account(world.store, ALICE.account).nonce
        dests = [bytes([(nonce + index) % 200]) * 32 for index in range(20)]
        world.add_block([make_transfer_to(world, nonce + index, dest) for index, dest in enumerate(dests)])


def measure_directory(path: Path) -> int:
    """Bytes of its files."""
    return sum(one.stat().st_size for one in path.iterdir())
