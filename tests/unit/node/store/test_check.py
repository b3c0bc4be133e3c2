"""Whatever is changed in a database, in its rows or in the bytes of its files: found, and named with what helps."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

import pytest

from consensus.bft.commit import compute_commit_sign_bytes
from node.cli.databases import advise
from node.store import database as database_module
from node.store.chain_store import ChainStore, Retention
from node.store.check import Report, check_database
from node.store.columns import Column
from node.store.database import Database, DatabaseDamaged, DatabaseError, repair_database
from node.store.records import encode_height
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.types.calls import Bond
from proto_specs.types.chain import compute_block_hash
from tests.unit.node.store.test_history import grow
from tests.unit.node.store.test_snapshot import ignore
from tests.unit.node.world import ALICE, BOB, MYL, World, make_commit, make_genesis, sign_call

SEED = 20_261_123
FLIPS = 150


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database with 30 blocks, states of 8 of them, and data in tables and log alike."""
    path = tmp_path_factory.mktemp("whole") / "db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_module, "WRITE_BUFFER_BYTES", 1 << 16)
        world = World(path, retention=Retention(state_blocks=8, is_indexed=True))
        grow(world, 30, per_block=6)
        world.store.close()
    return path


def check(path: Path) -> Report:
    return check_database(path, make_genesis(), ignore)


def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "db"))


def test_a_whole_database_has_no_problems_and_everything_was_looked_at(whole: Path, tmp_path: Path) -> None:
    report = check(copy(whole, tmp_path))
    assert report.problems == []
    assert (report.height, report.blocks, report.bodies, report.commits, report.states) == (30, 30, 30, 30, 8)
    assert min(report.items, report.changes) > 20
    assert report.pages == 17, "a branch and its pages of leaves"
    assert "start the node" in advise(report)
    assert [one.name for one in tmp_path.iterdir()] == ["db"]


@pytest.mark.parametrize("column", [one for one in Column if one is not Column.EXTRINSICS])
@pytest.mark.parametrize("way", ["lost", "changed"])
def test_any_row_that_is_lost_or_changed_is_found(whole: Path, tmp_path: Path, column: Column, way: str) -> None:
    """Not the node's own checksums: those of the chain. One row of each column, chosen at random."""
    path = copy(whole, tmp_path)
    database = Database(path)
    rows = [row for row in database.iterate(column.value) if row[1]]
    key, value = random.Random(f"{SEED} {column.name} {way}").choice(rows)
    changed = bytearray(value)
    changed[-1] ^= 1
    database.write([(key, None if way == "lost" else bytes(changed))])
    database.close()
    if key in (Column.META.value + b"genesis", Column.META.value + b"version") and way == "changed":
        with pytest.raises(DatabaseError, match=r"another chain|has format"):
            check(path)
        return
    report = check(path)
    assert report.problems, f"{key.hex()} {way}"
    assert "start the node" not in advise(report)


def grow_with_changing_validators(path: Path, retention: Retention) -> World:
    """The only validator bonds more in each of four epochs: five sets, each with a hash of its own."""
    world = World(path, retention=retention)
    for height in range(1, 46):
        bond = [sign_call(world.genesis.hash, ALICE, height // 10 - 1, Bond(1_000 * MYL))] if not height % 10 else []
        world.add_block(bond)
    return world


@pytest.mark.parametrize("states", [None, 8])
def test_every_commit_is_verified_also_where_the_state_is_pruned(tmp_path: Path, states: int | None) -> None:
    world = grow_with_changing_validators(tmp_path / "db", Retention(state_blocks=states))
    headers = [world.store.get_header(height) for height in range(1, 46)]
    world.store.close()
    assert len({one.validators_hash for one in headers if one is not None}) == 5
    report = check(world.path)
    assert report.problems == []
    assert report.commits == 45


def test_a_commit_that_others_signed_is_found_in_the_midst_of_an_archive(tmp_path: Path) -> None:
    """Everything that hashes can tell fits: only the signatures do not."""
    world = grow_with_changing_validators(tmp_path / "db", Retention(state_blocks=None))
    commit = world.store.get_commit(25)
    assert commit is not None
    signed = compute_commit_sign_bytes(commit, world.genesis.hash)
    forged = dataclasses.replace(commit.signatures[0], signature=BOB.consensus_key.sign(Tag.VOTE_SIGN, signed))
    world.store.close()
    database = Database(world.path)
    database.write(
        [(Column.COMMIT.value + encode_height(25), encode(dataclasses.replace(commit, signatures=(forged,))))]
    )
    database.close()
    report = check(world.path)
    assert any("the commit of block 25: bad precommit signature" in text for _, text in report.problems)


def test_a_commit_may_be_another_than_the_next_block_names(tmp_path: Path) -> None:
    """With several validators it mostly is: the next proposer has other precommits of it than this node."""
    world = World(tmp_path / "db", retention=Retention(state_blocks=None))
    grow(world, 5, per_block=1)
    header = world.store.get_header(3)
    assert header is not None
    other = make_commit(world.genesis.hash, 3, compute_block_hash(header), round_=1)
    assert world.store.get_commit(3) != other
    world.store.close()
    database = Database(world.path)
    database.write([(Column.COMMIT.value + encode_height(3), encode(other))])
    database.close()
    report = check(world.path)
    assert report.problems == []
    assert report.commits == 5


def test_a_stray_row_of_history_is_found_and_history_can_be_given_up(whole: Path, tmp_path: Path) -> None:
    path = copy(whole, tmp_path)
    database = Database(path)
    database.write([(Column.STATE_WAS.value + b"system.now:" + (99).to_bytes(8, "big"), b"")])
    database.close()
    report = check(path)
    assert report.parts == {"history"}
    assert "--drop-history" in advise(report)
    store = ChainStore(path, make_genesis())
    store.forget_history()
    store.close()
    assert check(path).problems == []


def open_and_read(path: Path) -> dict[bytes, bytes] | None:
    """All rows by which a node is anything, or None when damage was named."""
    store = None
    try:
        store = ChainStore(path, make_genesis(), Retention(state_blocks=8))
        return dict(store._db.iterate(b""))  # noqa: SLF001
    except DatabaseDamaged as error:
        if "myelin db repair" not in str(error):
            raise
        return None
    finally:
        if store is not None:
            store.close()


@pytest.mark.parametrize("way", ["flip", "cut"])
def test_a_flipped_byte_or_cut_tail_of_any_file_is_named_or_harmless(whole: Path, tmp_path: Path, way: str) -> None:
    """Harmless: not a row is lost or other than it was."""
    dice = random.Random(f"{SEED} {way}")
    reference = copy(whole, tmp_path / "reference")
    rows = open_and_read(reference)
    assert rows is not None
    names = sorted(one.name for one in whole.iterdir() if one.name not in ("LOG", "LOG.old", "LOCK"))
    assert {Path(name).suffix for name in names} >= {".ldb", ".log"}
    named = 0
    for number in range(FLIPS):
        path = copy(whole, tmp_path / str(number))
        file = path / names[number % len(names)]
        data = bytearray(file.read_bytes())
        if not data:
            continue
        at = dice.randrange(len(data))
        if way == "flip":
            data[at] ^= 1 << dice.randrange(8)
        else:
            del data[at:]
        file.write_bytes(data)
        found = open_and_read(path)
        if found is None:
            named += 1
        else:
            assert found == rows, f"{file.name} {way} at {at}"
        shutil.rmtree(tmp_path / str(number))
    assert named > FLIPS / 3


def test_a_lost_current_is_named_before_anything_is_deleted_and_repaired(whole: Path, tmp_path: Path) -> None:
    path = copy(whole, tmp_path)
    (path / "CURRENT").unlink()
    tables = sorted(path.glob("*.ldb"))
    report = check(path)
    assert "CURRENT is missing" in report.problems[0][1]
    assert sorted(path.glob("*.ldb")) == tables
    repair_database(path)
    assert check(path).problems == []
