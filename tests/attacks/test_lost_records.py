"""Somebody wants a worker to be unable to open what it signed: records must survive every way that a worker ends."""

from __future__ import annotations

from pathlib import Path as FilePath

import pytest
import trio

from inference.serving.record import RequestRecord
from inference.serving.window_store import SignedWindow
from node.worker.archive import RETRY_S, DiskRequestArchive
from node.worker.window_files import FILE_BYTES_MAX, WindowFile, WindowsHead, read_left
from proto_specs.types.request import compute_request_id
from tests.property.inference.serving.harness import Path, make_order
from tests.unit.node.worker.test_active import PROMPT, Bench
from tests.unit.node.worker.test_archive import World, world  # noqa: F401
from tests.unit.node.worker.test_handover import lose_after
from tests.unit.node.worker.world import FakeAccount


def make_record() -> RequestRecord:
    outcome = Path(make_order(PROMPT, 60, 3), PROMPT, None, seed=9).run()
    return outcome.records[1]


def write_windows(directory: FilePath, record: RequestRecord, count: int) -> None:
    file = WindowFile(directory, WindowsHead(record.order, record.stage, record.prompt, record.grammar))
    rows = (
        record.input_leaves,
        record.input_payloads,
        record.output_leaves,
        record.output_payloads,
        record.traces,
    )
    for one in list(zip(*rows, strict=True))[:count]:
        file.put(SignedWindow(*one))


def start(directory: FilePath) -> DiskRequestArchive:
    return DiskRequestArchive(directory, FakeAccount())  # type: ignore[arg-type]


def test_a_whole_record_is_not_replaced_by_the_windows_that_were_left(tmp_path: FilePath) -> None:
    """Killed after it committed to its last, partial window: that one may be drawn, and only the record has it."""
    record = make_record()
    start(tmp_path).openings.save(record)
    write_windows(tmp_path / "running", record, len(record.output_leaves) - 1)
    archive = start(tmp_path)
    assert archive.openings.load(compute_request_id(record.order.order), 1) == record
    assert list((tmp_path / "running").iterdir()) == []


def test_windows_that_were_left_replace_a_record_of_fewer(tmp_path: FilePath) -> None:
    record = make_record()
    archive = start(tmp_path)
    for count in (1, 2):
        write_windows(tmp_path / "running", record, count)
        archive = start(tmp_path)
    assert archive.openings.load(compute_request_id(record.order.order), 1).output_leaves == record.output_leaves[:2]


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 100, b"\x00\x00\x00\x01x" * 1000, bytes(10**6)])
def test_garbage_is_removed_and_the_worker_starts(tmp_path: FilePath, garbage: bytes) -> None:
    start(tmp_path)
    (tmp_path / "running" / "x.windows").write_bytes(garbage)
    start(tmp_path)
    assert list((tmp_path / "running").iterdir()) == []


def test_a_huge_file_is_not_read(tmp_path: FilePath) -> None:
    with (tmp_path / "x.windows").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    ((_, found),) = read_left(tmp_path)
    assert found is None


async def test_a_worker_that_is_cancelled_leaves_its_windows_to_the_next_start(autojump_clock) -> None:
    """The others of the path settle by the roots that it signed; as when it is killed it must open them."""
    bench = Bench(stage=0, tokens_max=100)
    lose_after(bench, 2)
    bench.archive.failure = OSError("the disk is full")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await trio.sleep(1)
        assert bench.active.machine.prefix_windows == 2
        nursery.cancel_scope.cancel()
    assert bench.archive.records == []
    assert not bench.active._windows.is_deleted  # type: ignore[attr-defined]  # noqa: SLF001


async def test_a_settlement_that_waits_is_sent_then_and_replaces_none(world: World, autojump_clock) -> None:  # noqa: F811
    await world.archive.settle_later(world.request, world.settle, 30.0)
    for _ in range(3):
        await world.archive.run_once()
        assert world.account.sent == []
        await trio.sleep(RETRY_S)
    await trio.sleep(30)
    await world.archive.settle_later(world.request, world.settle, 30.0)
    await world.archive.run_once()
    assert world.account.sent == [world.settle]
