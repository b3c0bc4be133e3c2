"""A byte changed or a tail cut in any file a validator keeps: nothing comes of it, or it is named with what helps."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.replica.wal import WalDamaged, repair_wal
from node.replica.wal_records import check_database_reaches, read_inputs
from node.signer.signer import Signer, SignerError, SignRefused, VoteSlot, export_history, import_history
from node.store.chain_store import ChainStore, Retention
from node.store.check import check_database
from node.store.database import DatabaseDamaged, repair_database
from node.store.snapshot_export import export_snapshot
from node.store.snapshot_format import SnapshotError
from node.store.snapshot_import import import_snapshot
from tests.simulation.crash.images import IGNORED, Image
from tests.simulation.crash.steady import BODIES, STATES, OtherPool, Steady, Story
from tests.unit.node.chain.disk import Gossip
from tests.unit.node.replica.test_replica_alone import check_signed_once
from tests.unit.node.store.test_snapshot import ignore
from tests.unit.node.world import ALICE

SEED = 20_261_123


def damage(data: bytes, number: int, parts: int, dice: random.Random) -> tuple[str, bytes]:
    """A flip in the n-th part of the file, or a cut there."""
    low = len(data) * (number // 2) // parts
    at = min(len(data) - 1, low + dice.randrange(max(1, len(data) // parts)))
    if number % 2:
        return f"cut at {at} of {len(data)}", data[:at]
    return f"flip at {at} of {len(data)}", data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]


def iterate_damage(data: bytes, times: int, name: str) -> Iterator[tuple[str, bytes]]:
    """Regions take turns, so that none is missed."""
    dice = random.Random(f"{SEED} {name}")
    return (damage(data, number, times // 2, dice) for number in range(times))


@pytest.fixture(scope="module")
def interrupted(story: Story) -> Image:
    """In the middle of a height: proposal and prevote are signed, the log is as long as it gets."""
    return max(story.images[len(story.images) // 2 :], key=lambda one: _get_size(one.path / "consensus.wal"))


@pytest.fixture(scope="module")
def stopped(story: Story) -> Path:
    """A node that was stopped, not killed, later on."""
    return story.images[-1].path


def _get_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize("pool", [None, OtherPool])
async def test_a_damaged_log_is_named_or_costs_nothing(
    interrupted: Image, story: Story, scratch: Path, pool: type[OtherPool] | None
) -> None:
    """After the repair too; and whatever of it is lost, nothing else is signed."""
    data = (interrupted.path / "consensus.wal").read_bytes()
    assert len(data) > 1_000
    named = 0
    for about, damaged in iterate_damage(data, 128 if pool is None else 40, "log"):
        base = Path(shutil.copytree(interrupted.path, scratch / "node"))
        (base / "consensus.wal").write_bytes(damaged)
        gossip = Gossip(story.sent.sent[: interrupted.mark])
        validator = Steady(base, gossip=gossip) if pool is None else Steady(base, gossip=gossip, pool=pool)
        said = ""
        try:
            await validator.run_blocks(1)
        except* WalDamaged as group:
            said = repr(group)
        if said:
            named += 1
            assert "myelin wal repair" in said, about
            assert repair_wal(base / "consensus.wal") > 0
            await validator.run_blocks(1)
        for height, moment in validator.moments.items():
            assert pool is not None or moment == story.moments[height], about
        check_signed_once(gossip)
        shutil.rmtree(base)
    assert named > 10


def test_a_damaged_signers_history_is_named_or_binds_as_before(interrupted: Image, tmp_path: Path) -> None:
    genesis = Steady(tmp_path).genesis.hash
    path = tmp_path / "history.json"
    data = (interrupted.path / "signer.json").read_bytes()
    path.write_bytes(data)
    whole = Signer(path, ALICE.consensus_key, genesis)
    (height, signed), text = (whole._history.height, whole._history.signed), export_history(path)  # noqa: SLF001
    whole.close()
    assert signed
    named = 0
    for _, damaged in iterate_damage(data, 1_000, "signer"):
        path.write_bytes(damaged)
        try:
            signer = Signer(path, ALICE.consensus_key, genesis)
        except SignerError as error:
            named += "myelin signer import" in str(error)
            continue
        for round_, slot in signed:
            with pytest.raises(SignRefused):
                signer.sign(height, round_, VoteSlot(slot), b"other")
        signer.close()
    assert named > 900
    path.unlink()
    import_history(path, text)
    Signer(path, ALICE.consensus_key, genesis).close()


def test_a_damaged_snapshot_is_refused(stopped: Path, tmp_path: Path, scratch: Path) -> None:
    genesis = Steady(tmp_path).genesis
    source = scratch / "snapshot"
    shutil.copytree(stopped, scratch / "node")
    export_snapshot(scratch / "node" / "db", genesis, source, ignore)
    for file in sorted(source.iterdir()):
        data = file.read_bytes()
        for about, damaged in iterate_damage(data, 128, file.name):
            file.write_bytes(damaged)
            with pytest.raises(SnapshotError, match=r"(export|fetch|Fetch).*again"):
                import_snapshot(source, scratch / "other", genesis, ignore)
            assert not list(scratch.glob("other*")), f"{file.name} {about}"
        file.write_bytes(data)
    import_snapshot(source, scratch / "other", genesis, ignore)


@pytest.mark.parametrize("state", ["stopped", "killed"])
def test_a_damaged_file_of_leveldb_is_named_or_costs_nothing(
    stopped: Path, interrupted: Image, tmp_path: Path, scratch: Path, state: str
) -> None:
    """Not a row is other than it was, or opening or reading says so; a repair then gives all, or says what it lost."""
    source = (stopped if state == "stopped" else interrupted.path) / "db"
    genesis = Steady(tmp_path).genesis
    retention = Retention(STATES, BODIES)

    def read(path: Path) -> tuple[int, dict[bytes, bytes]]:
        store = ChainStore(path, genesis, retention)
        try:
            return store.get_head().height, dict(store._db.iterate(b""))  # noqa: SLF001
        finally:
            store.close()

    rows = read(Path(shutil.copytree(source, scratch / "whole")))
    files = sorted(one.name for one in source.iterdir() if one.name not in IGNORED and one.stat().st_size)
    assert {one[:3] for one in files} >= {"CUR", "MAN", "MAR"}
    named = repaired = 0
    for name in files:
        data = (source / name).read_bytes()
        for about, damaged in iterate_damage(data, 80, name):
            path = Path(shutil.copytree(source, scratch / "db"))
            (path / name).write_bytes(damaged)
            said = ""
            try:
                found = read(path)
            except DatabaseDamaged as error:
                said = str(error)
            if said:
                named += 1
                assert "myelin db repair" in said, f"{name} {about}"
                repair_database(path)
                report = check_database(path, genesis, ignore)
                assert report.problems or report.height == rows[0], f"{name} {about}: less than before, and not said"
                repaired += not report.problems
            else:
                assert found == rows, f"{name} {about}"
            shutil.rmtree(path)
    assert named > 60
    assert repaired > 20


def test_a_database_behind_the_log_is_named_and_a_new_one_takes_its_place(interrupted: Image, scratch: Path) -> None:
    """The log says so too, where the mark is gone with the blocks it knew of."""
    path = interrupted.path / "consensus.wal"
    height = max(at for at, _ in read_inputs(path))
    for reached in (height, height - 1):
        check_database_reaches(path, reached)
    with pytest.raises(DatabaseDamaged, match=r"myelin db repair.*move `consensus.wal` away.*signer.json stays"):
        check_database_reaches(path, height - 2)
    check_database_reaches(scratch / "consensus.wal", 0)
