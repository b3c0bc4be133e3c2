"""Statements come about when they are due, without those requests that a stage does not sign, and through restarts."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from types import SimpleNamespace

import pytest
import trio
import trio.lowlevel

from node.client.batches import BatchRules
from node.client.chain_view import WorkerEntry
from node.client.errors import CallFailed, TransactionLost
from node.client.statement_clerk import PROPOSALS_MAX, SUBMISSIONS_MAX, StatementClerk
from node.client.statement_files import KEPT_S_MAX, StatementFiles
from node.p2p.errors import PeerUnreachable, RequestRefused
from proto_specs.codec import encode
from proto_specs.types.calls import SettleStatement
from proto_specs.types.statement_wire import (
    StatementAnswer,
    StatementRefusal,
    StatementRefused,
    StatementSignature,
)
from tests.property.inference.serving.harness import SESSION_KEY
from tests.unit.node.worker.stating import LedgerAccount, Stating, compute_earned
from tests.unit.node.worker.world import SESSION, change_session, change_worker

Change = Callable[[bytes], bytes]


class DeskSigners:
    """Asks the desks; `changes` are of the answers of stages, and an error is raised."""

    def __init__(self, world: Stating) -> None:
        self.world = world
        self.changes: dict[int, Change | Exception] = {}
        self.asked = 0

    async def ask(self, entry: WorkerEntry, body: bytes) -> bytes:
        self.asked += 1
        stage = [one.worker for one in self.world.workers].index(entry.worker)
        change = self.changes.get(stage)
        if isinstance(change, Exception):
            raise change
        answer = await self.world.desks[stage].answer(body, "peer")
        return answer if change is None else change(answer)


class Office:
    """A clerk over the world of three stages."""

    def __init__(self, directory: FilePath, rules: BatchRules) -> None:
        self.world = Stating(directory / "workers")
        self.account = LedgerAccount(self.world.ledger)
        self.signers = DeskSigners(self.world)
        self.directory = directory / "statements"
        self.rules = rules
        self.open()

    def open(self) -> None:
        self.files = StatementFiles(self.directory)
        self.clerk = StatementClerk(self.account, self.signers, self.files, self.rules)  # type: ignore[arg-type]

    async def serve(self, count: int, first: int = 0) -> None:
        for sequence in range(first, first + count):
            self.clerk.add(await self.world.serve(sequence), SESSION_KEY, self.world.workers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.clerk.run)
            yield
            nursery.cancel_scope.cancel()

    @property
    def stated(self) -> list[int]:
        calls = [one for one in self.account.sent if isinstance(one, SettleStatement)]
        return [one.statement.statement.requests for one in calls]


@pytest.fixture
def office(tmp_path: FilePath) -> Office:
    return Office(tmp_path, BatchRules(requests_max=4, wait_s=30.0))


async def test_statements_are_made_as_they_fall_due(office: Office, mock_clock) -> None:
    await office.serve(5)
    await office.clerk.run_once()
    assert office.stated == [4, 1], "what is due is one batch, in statements of four"
    await office.serve(2, first=5)
    mock_clock.jump(29)
    await office.clerk.run_once()
    assert office.stated == [4, 1]
    assert office.clerk.count(SESSION) == 2
    mock_clock.jump(1)
    await office.clerk.run_once()
    assert office.stated == [4, 1, 2]
    assert office.clerk.count(SESSION) == 0
    assert all(len(one.signed.list_kept()) == 3 for one in office.world.archives)


async def test_a_session_that_is_about_to_close_is_settled_now(office: Office) -> None:
    await office.serve(3)
    await office.clerk.settle_session(SESSION)
    assert office.stated == [3]
    await office.clerk.settle_session(SESSION)
    assert office.stated == [3]


async def test_a_request_is_known_by_its_statement_also_after_a_restart(office: Office) -> None:
    finished = [await office.world.serve(sequence) for sequence in range(2)]
    for one in finished:
        office.clerk.add(one, SESSION_KEY, office.world.workers)
    assert office.clerk.find(finished[0].request) is None
    await office.clerk.settle_session(SESSION)
    found = [office.clerk.find(one.request) for one in finished]
    office.open()
    assert [office.clerk.find(one.request) for one in finished] == found
    assert {None if one is None else one.statement for one in found} == set(office.world.ledger.requests)


async def test_requests_that_a_stage_does_not_sign_are_left_out(office: Office, caplog) -> None:
    await office.serve(4)
    office.world.ledger.view.used.add((SESSION, 1))
    lost = office.world.archives[1].openings.list_kept()[0]
    office.world.archives[1].openings.delete(*lost)
    office.world.restart()
    with caplog.at_level(logging.WARNING):
        await office.clerk.settle_session(SESSION)
    assert sum(office.stated) in (2, 3), "the one that is settled, and the one without its record"
    assert "in no statement" in caplog.text


def refuse(code: StatementRefusal) -> Change:
    return lambda _answer: encode(StatementRefused(code, "no"), StatementAnswer)


@pytest.mark.parametrize(
    "change",
    [
        refuse(StatementRefusal.TOO_DEAR),
        PeerUnreachable("nobody there"),
        lambda _answer: b"garbage",
        lambda _answer: encode(StatementSignature(bytes(32), bytes(64)), StatementAnswer),
    ],
)
async def test_a_stage_that_does_not_sign_leaves_all_to_themselves(office: Office, change, caplog) -> None:
    await office.serve(2)
    office.signers.changes[1] = change
    with caplog.at_level(logging.WARNING):
        await office.clerk.settle_session(SESSION)
    assert office.stated == []
    assert "requests 0, 1 are in no statement, each settles by itself" in caplog.text
    assert office.signers.asked == 3, "once, it would say the same again"


async def test_a_busy_stage_is_asked_again(office: Office, autojump_clock) -> None:
    await office.serve(2)
    busy = refuse(StatementRefusal.BUSY)

    def answer_later(answer: bytes) -> bytes:
        del office.signers.changes[2]
        return busy(answer)

    office.signers.changes[2] = answer_later
    await office.clerk.settle_session(SESSION)
    assert office.stated == [2]
    await office.serve(1, first=2)
    office.signers.changes[2] = busy
    office.signers.asked = 0
    await office.clerk.settle_session(SESSION)
    assert office.signers.asked == 3 * PROPOSALS_MAX


async def test_a_worker_that_moved_house_is_found(office: Office) -> None:
    await office.serve(2)
    key = office.world.workers[1].worker
    change_worker(office.world.ledger.view, 1, addresses=("elsewhere",))
    honest = office.signers.ask

    async def ask(entry: WorkerEntry, body: bytes) -> bytes:
        if entry.worker == key and entry.addresses != ("elsewhere",):
            raise PeerUnreachable("gone from there")
        return await honest(entry, body)

    office.signers.ask = ask  # type: ignore[method-assign]
    await office.clerk.settle_session(SESSION)
    assert office.stated == [2]


async def test_a_crowd_before_the_desk_is_waited_for(office: Office, autojump_clock) -> None:
    await office.serve(2)
    office.signers.changes[1] = RequestRefused("too many requests")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.clerk.settle_session, SESSION)
        while office.signers.asked < 3:
            await trio.lowlevel.checkpoint()
        del office.signers.changes[1]
    assert office.stated == [2]


async def test_a_node_that_is_away_gets_it_later(office: Office, autojump_clock) -> None:
    await office.serve(2)
    office.account.failures = [TransactionLost("gone")] * (SUBMISSIONS_MAX - 1)
    await office.clerk.settle_session(SESSION)
    assert office.stated == [2]


async def test_a_bond_that_is_too_laden_now_is_waited_for(office: Office, autojump_clock) -> None:
    await office.serve(2)
    office.account.failures = [CallFailed("SettleStatement", "inference", "ExposureExceeded")]
    await office.clerk.settle_session(SESSION)
    assert office.stated == [2]
    await office.serve(1, first=2)
    office.account.failures = [CallFailed("SettleStatement", "inference", "BadStatement")]
    await office.clerk.settle_session(SESSION)
    assert office.stated == [2], "for good"


async def test_a_run_that_was_interrupted_before_it_sent_is_gone_on_with(office: Office, autojump_clock) -> None:
    """What was signed is sent at the next start; what was not is settled by the flush of this run."""
    await office.serve(2)
    keep = office.files.keep

    def die(kept):  # type: ignore[no-untyped-def]
        keep(kept)
        raise OSError("killed here")

    office.files.keep = die  # type: ignore[method-assign]
    await office.clerk.settle_session(SESSION)
    assert office.stated == []
    office.open()
    async with office.running():
        await trio.sleep(1)
    assert office.stated == [2]
    office.open()
    async with office.running():
        await trio.sleep(1)
    assert office.stated == [2], "it is on chain"


async def test_what_was_under_way_when_everything_ended_is_settled_by_the_last_flush(
    office: Office, autojump_clock
) -> None:
    await office.serve(4)
    office.account.failures = [TransactionLost("gone")]
    async with office.running():
        await trio.sleep(1)
    assert office.stated == []
    assert office.clerk.count(SESSION) == 4
    await office.clerk.settle_session(SESSION)
    assert office.stated == [4]


async def test_a_session_that_is_over_is_not_sent_to(office: Office, autojump_clock) -> None:
    await office.serve(2)
    office.account.failures = [CallFailed("SettleStatement", "inference", "BadStatement")]
    await office.clerk.settle_session(SESSION)
    change_session(office.world.ledger.view, is_settleable=False)
    office.open()
    async with office.running():
        await trio.sleep(1)
    assert office.stated == []


async def test_old_and_damaged_files_are_no_obstacle(office: Office, monkeypatch) -> None:
    await office.serve(1)
    await office.clerk.settle_session(SESSION)
    (path,) = office.directory.iterdir()
    (office.directory / f"{'0' * 64}.statement").write_bytes(b"garbage")
    files = StatementFiles(office.directory)
    assert len(files.take_left()) == 1
    assert files.take_left() == []
    monkeypatch.setattr("node.client.statement_files.time", SimpleNamespace(time=lambda: 1e12 + KEPT_S_MAX))
    assert StatementFiles(office.directory).take_left() == []
    assert not path.exists()


async def test_everybody_is_paid_the_same_as_singly(office: Office) -> None:
    finished = [await office.world.serve(sequence, tokens=4 + sequence) for sequence in range(6)]
    for one in finished:
        office.clerk.add(one, SESSION_KEY, office.world.workers)
    await office.clerk.settle_session(SESSION)
    assert office.world.ledger.earned.total() == compute_earned(finished)
