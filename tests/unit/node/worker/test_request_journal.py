"""A worker runs no request twice, whatever becomes of its process and its disk: nobody honest is convicted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from typer.testing import CliRunner

from inference.serving.events import ToUpstream
from inference.serving.setup import StageSetup
from inference.serving.stage import StageRequest
from node.cli import workers
from node.client.rpc_chain import Health
from node.worker import request_journal
from node.worker.refusal import OrderRefused
from node.worker.request_journal import RECORD_BYTES, JournalError, RequestJournal, get_log_path, repair_logs
from node.worker.service import open_request_journal
from proto_specs.types.request import Leaf, compute_request_id, is_input_signed, sign_output
from proto_specs.types.wire import Countersign, OutputLeaf, Rows
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS, make_manifest, make_order, make_sent_leaf
from tests.unit.node.worker.world import PROMPT, SESSION, make_chain

OPEN = make_chain().sessions[SESSION]


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def fill(path: Path, count: int) -> bytes:
    log = RequestJournal(path, 0)
    for number in range(count):
        await log.take(name(number), OPEN)
    log.close()
    return path.read_bytes()


def list_refused(log: RequestJournal, count: int) -> list[int]:
    refused = []
    for number in range(count):
        try:
            log.check(name(number), OPEN)
        except OrderRefused:
            refused.append(number)
    return refused


async def test_what_was_taken_is_refused_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "a.taken"
    await fill(path, 3)
    log = RequestJournal(path, 0)
    assert list_refused(log, 5) == [0, 1, 2]
    with pytest.raises(OrderRefused, match="run here before"):
        await log.take(name(1), OPEN)
    log.close()


async def test_every_torn_tail_is_dropped_and_nothing_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.taken"
    whole = await fill(path, 3)
    for cut in range(1, RECORD_BYTES):
        path.write_bytes(whole[:-cut])
        log = RequestJournal(path, 0)
        assert list_refused(log, 3) == [0, 1]
        await log.take(name(2), OPEN)
        log.close()
        assert path.read_bytes() == whole
    path.write_bytes(whole + bytes(2 * RECORD_BYTES + 7))  # the file grew, its pages were not written
    log = RequestJournal(path, 0)
    assert list_refused(log, 4) == [0, 1, 2]
    log.close()


async def test_every_flipped_byte_is_refused_with_the_command_that_repairs(tmp_path: Path) -> None:
    path = tmp_path / "a.taken"
    whole = await fill(path, 3)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with pytest.raises(JournalError, match="myelin worker repair"):
            RequestJournal(path, 0)
    for content in (b"", whole[RECORD_BYTES:], bytes(len(whole))):
        path.write_bytes(content)
        with pytest.raises(JournalError, match="myelin worker repair"):
            RequestJournal(path, 0)


async def test_after_a_repair_only_sessions_opened_later_are_served(tmp_path: Path) -> None:
    path = get_log_path(tmp_path, bytes(32), name(7))
    whole = await fill(path, 3)
    path.write_bytes(b"x" + whole[1:])
    assert [one.name for one in repair_logs(tmp_path)] == [f"{path.name}.damaged"]
    assert repair_logs(tmp_path) == []
    log = RequestJournal(path, 100)  # what a registered worker does that finds no log at height 100
    assert list_refused(log, 3) == [0, 1, 2]
    log.check(name(0), dataclasses.replace(OPEN, opened_height=101))
    log.close()
    log = RequestJournal(path, 0)
    assert list_refused(log, 1) == [0], "the floor is kept in the file"
    log.close()


async def test_the_command_that_the_refusal_names_repairs(tmp_path: Path) -> None:
    path = get_log_path(tmp_path, bytes(32), name(7))
    whole = await fill(path, 2)
    path.write_bytes(whole[:50] + b"x" + whole[51:])
    done = CliRunner().invoke(workers.app, ["repair", "--base", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "put aside" in done.output
    assert not path.exists()
    assert path.with_suffix(".taken.damaged").read_bytes() == whole[:50] + b"x" + whole[51:], "nothing is lost"


async def test_requests_of_expired_sessions_are_dropped_and_stay_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(request_journal, "COMPACT_RECORDS_MIN", 4)
    path = tmp_path / "a.taken"
    log = RequestJournal(path, 0)
    for number in range(4):
        await log.take(name(number), OPEN)
    late = dataclasses.replace(OPEN, opened_height=4_000, expiry_height=7_600, height=OPEN.expiry_height)
    for number in range(4, 15):
        await log.take(name(number), late)
    assert len(log) == 11
    assert path.stat().st_size < 15 * RECORD_BYTES
    for _ in range(2):
        assert list_refused(log, 4) == [0, 1, 2, 3], "a node that lags shows the old session as open"
        for number in range(4, 15):
            with pytest.raises(OrderRefused, match="run here before"):
                log.check(name(number), late)
        log.check(name(15), late)
        log.close()
        log = RequestJournal(path, 0)
    log.close()


async def test_requests_that_come_at_once_share_syncs_and_are_all_kept(tmp_path: Path, monkeypatch) -> None:
    syncs = []
    monkeypatch.setattr(request_journal.os, "fsync", lambda number: syncs.append(number))
    path = tmp_path / "a.taken"
    log = RequestJournal(path, 0)
    before = len(syncs)
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(log.take, name(number), OPEN)
    assert len(syncs) - before <= 3
    log.close()
    log = RequestJournal(path, 0)
    assert len(log) == 50
    log.close()


async def test_the_same_request_twice_at_once_is_taken_once(tmp_path: Path) -> None:
    log = RequestJournal(tmp_path / "a.taken", 0)
    results: list[str] = []

    async def take() -> None:
        try:
            await log.take(name(1), OPEN)
            results.append("taken")
        except OrderRefused:
            results.append("refused")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        nursery.start_soon(take)
    assert sorted(results) == ["refused", "taken"]
    log.close()


async def test_a_disk_that_fails_takes_nothing_more(tmp_path: Path, monkeypatch) -> None:
    log = RequestJournal(tmp_path / "a.taken", 0)

    def fail(_number: int) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(request_journal.os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            await log.take(name(1), OPEN)
    with pytest.raises(OSError, match="earlier write"):
        await log.take(name(2), OPEN)
    log.close()


def test_a_key_serves_in_one_process(tmp_path: Path) -> None:
    log = RequestJournal(tmp_path / "a.taken", 0)
    with pytest.raises(JournalError, match="another worker"):
        RequestJournal(tmp_path / "a.taken", 0)
    with pytest.raises(JournalError, match="another worker"):
        repair_logs(tmp_path)
    log.close()
    RequestJournal(tmp_path / "a.taken", 0).close()


ORDER = make_order(PROMPT, 20, 3)


def countersign_input(payload: bytes) -> tuple[Leaf, bytes]:
    """What stage 1 signs when stage 0 sends these rows of the first window."""
    machine = StageRequest(StageSetup(ORDER, 1, make_manifest(), SESSION_KEY.public_key, WORKER_KEYS[1]))
    rows = Rows(machine.request, 1, 0, 32, payload)
    machine.handle(rows)
    leaf = make_sent_leaf(rows)
    effects = machine.handle(OutputLeaf(leaf, sign_output(leaf, WORKER_KEYS[0])))
    (signature,) = [
        one.frame.signature for one in effects if isinstance(one, ToUpstream) and isinstance(one.frame, Countersign)
    ]
    return leaf, signature


async def test_the_attack_same_order_other_input_after_a_restart(tmp_path: Path) -> None:
    """Client and predecessor collude: they have the worker countersign one input, kill it, and send it another."""
    first, second = countersign_input(b"\x01" * 512), countersign_input(b"\x02" * 512)
    key = WORKER_KEYS[1].public_key
    slots = [(one.request, one.boundary, one.window) for one, _ in (first, second)]
    assert slots[0] == slots[1]
    assert first[0] != second[0]
    assert all(is_input_signed(leaf, key, signature) for leaf, signature in (first, second)), "this would convict"

    path = get_log_path(tmp_path, bytes(32), key)
    log = RequestJournal(path, 0)
    await log.take(compute_request_id(ORDER.order), OPEN)  # before the first run signs
    log.close()
    log = RequestJournal(path, 0)
    with pytest.raises(OrderRefused, match="run here before"):
        await log.take(compute_request_id(ORDER.order), OPEN)  # so the second run never begins
    log.close()


class LaggingChain:
    """A node that comes up to the chain's head while it is asked. It knows the worker from block 100 on."""

    genesis = name(1)

    def __init__(self, heights: list[int]) -> None:
        self.heights = heights

    async def get_health(self) -> Health:
        height = self.heights.pop(0) if len(self.heights) > 1 else self.heights[0]
        return Health(height, is_current=height >= 1_000)

    async def get_worker(self, worker: bytes, *, fresh: bool = False) -> object | None:
        return object() if self.heights[0] >= 100 else None


async def test_a_lost_log_is_not_begun_by_the_word_of_a_node_that_catches_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The attack: wipe the disk of worker and node, then replay a request of an open session while the node syncs."""
    config = SimpleNamespace(worker_key=WORKER_KEYS[1], directory=tmp_path)
    account = SimpleNamespace(chain=LaggingChain([0, 5, 50, 500, 1_000]))
    log = await open_request_journal(config, account)  # type: ignore[arg-type]
    with pytest.raises(OrderRefused):
        log.check(name(7), dataclasses.replace(OPEN, opened_height=100, expiry_height=5_000, height=1_001))
    log.close()
