"""The chain on disk: genesis once, a block whole or not at all, every index, proofs that light clients accept."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.runtime.balances import state as balances
from consensus.state.tree import EMPTY_ROOT, update, verify_proof
from genesis.builder import build_genesis
from genesis.dev import build_dev_spec
from node.store.chain_store import ChainStore
from node.store.columns import Column
from node.store.database import Database, DatabaseDamaged, DatabaseError
from proto_specs.types.chain import compute_block_hash, compute_extrinsic_hash
from tests.unit.node.world import ALICE, BOB, MYL, World, make_genesis


def test_an_empty_database_becomes_the_genesis(world: World) -> None:
    head = world.head
    assert (head.height, head.block_hash) == (0, world.genesis.hash)
    assert head.state_root == world.genesis.state_root
    assert head.validators == world.genesis.validators
    assert head.time_ms == world.genesis.spec.genesis_time_ms
    assert world.dump() == dict(world.genesis.items)
    assert world.store.get_block_hash(0) == world.genesis.hash
    assert world.store.get_block(0) is None


def test_a_committed_block_is_found_by_every_index_also_after_reopening(world: World) -> None:
    transactions = [world.transfer(0), world.transfer(1)]
    done = world.add_block(transactions)
    world.reopen()
    store, block_hash = world.store, compute_block_hash(done.block.header)
    assert store.get_head() == done.head
    assert store.get_block(1) == done.block
    assert store.get_commit(1) == done.commit
    assert store.find_height(block_hash) == 1
    assert store.get_block_hash(1) == block_hash
    found = store.get_receipts(1)
    assert found is not None
    assert (found.receipts, found.events) == (done.executed.receipts, done.executed.events)
    for index, transaction in enumerate(transactions):
        location = store.find_extrinsic(compute_extrinsic_hash(transaction))
        assert location is not None
        assert (location.height, location.index) == (1, index)
    assert balances.read_account(store, BOB.account).free == 1_000_000 * MYL + 2 * MYL


def test_what_is_not_there_is_none(world: World) -> None:
    world.add_block()
    store = world.store
    assert store.get_block(2) is None
    assert store.get_commit(2) is None
    assert store.get_receipts(2) is None
    assert store.find_height(bytes(32)) is None
    assert store.find_extrinsic(bytes(32)) is None
    assert store.get_block_hash(2) is None
    assert store.get(b"nothing") is None


def test_the_stored_tree_commits_to_the_stored_state(world: World) -> None:
    for nonce in range(3):
        world.add_block([world.transfer(nonce)])
    fresh = update(lambda path: None, EMPTY_ROOT, sorted(world.dump().items()))
    assert fresh.root == world.head.state_root


def test_proofs_of_the_head_are_accepted_under_its_root(world: World) -> None:
    world.add_block([world.transfer(0)])
    root, present, absent = world.head.state_root, balances.accounts.key(ALICE.account), b"balances.account:nobody"
    value = world.store.get(present)
    assert value is not None
    assert verify_proof(root, present, value, world.store.prove(present))
    assert not verify_proof(root, present, value + b"\0", world.store.prove(present))
    assert verify_proof(root, absent, None, world.store.prove(absent))


def test_iteration_of_the_state_begins_where_it_is_told(world: World) -> None:
    accounts = list(world.store.iterate(b"balances.account:"))
    assert accounts == [(key, value) for key, value in world.genesis.items if key.startswith(b"balances.account:")]
    assert list(world.store.iterate(b"balances.account:", accounts[2][0])) == accounts[2:]


def test_a_block_that_cannot_be_written_leaves_the_store_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = world.finalize(world.build([world.transfer(0)]))
    head, state = world.head, world.dump()

    def fail(*_: object) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("node.store.chain_store.compute_extrinsic_hash", fail)
        with pytest.raises(MemoryError):
            world.store.commit_block(done)
    assert (world.head, world.dump()) == (head, state)
    world.store.commit_block(done)
    assert world.head == done.head


def test_a_database_of_another_chain_is_refused_and_stays_usable(world: World, tmp_path: Path) -> None:
    world.store.close()
    other = build_genesis(build_dev_spec(name="another"))
    with pytest.raises(DatabaseError, match="another chain"):
        ChainStore(tmp_path / "db", other)
    world.__post_init__()


def test_a_database_of_another_format_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    database.write([(Column.META.value + b"version", b"999")])
    database.close()
    with pytest.raises(DatabaseError, match="format 999"):
        ChainStore(tmp_path / "db", make_genesis())


@pytest.mark.parametrize("column", [Column.BLOCK, Column.COMMIT, Column.RECEIPTS])
def test_a_value_that_does_not_decode_is_damage_with_its_key_and_cure(
    world: World, tmp_path: Path, column: Column
) -> None:
    world.add_block([world.transfer(0)])
    world.store.close()
    database = Database(tmp_path / "db")
    key = column.value + (1).to_bytes(8, "big")
    database.write([(key, b"nonsense")])
    database.close()
    world.__post_init__()
    read = {
        Column.BLOCK: world.store.get_block,
        Column.COMMIT: world.store.get_commit,
        Column.RECEIPTS: world.store.get_receipts,
    }[column]
    with pytest.raises(DatabaseDamaged, match=rf"{key.hex()}.*myelin db repair"):
        read(1)


def test_a_view_stays_at_its_moment(world: World) -> None:
    view, head, state = world.store.view(), world.head, world.dump()
    key = balances.accounts.key(BOB.account)
    world.add_block([world.transfer(0)])
    assert view.get_head() == head != world.head
    assert dict(view.iterate(b"")) == state != world.dump()
    value = view.get(key)
    assert value != world.store.get(key)
    assert verify_proof(head.state_root, key, value, view.prove(key))


def delete(path: Path, *keys: bytes) -> None:
    """Damage a closed database as a repair might."""
    database = Database(path)
    database.write([(key, None) for key in keys])
    database.close()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (Column.META.value + b"head", "head is missing"),
        (Column.META.value + b"version", "which chain"),
        (Column.HEADER.value + (2).to_bytes(8, "big"), "not that of the head"),
        (Column.STATE.value + b"system.now:", "state is not that"),
    ],
)
def test_a_head_that_does_not_fit_its_chain_is_damage(world: World, tmp_path: Path, key: bytes, said: str) -> None:
    world.add_block()
    world.add_block()
    world.store.close()
    delete(tmp_path / "db", key)
    with pytest.raises(DatabaseDamaged, match=said):
        world.__post_init__()
    world.store = ChainStore(tmp_path / "fresh", world.genesis)


def test_headers_are_kept_apart_from_their_blocks(world: World) -> None:
    done = world.add_block([world.transfer(0)])
    assert world.store.get_header(1) == done.block.header
    assert world.store.get_header(2) is None
