"""Draining: running requests finish, those that outlast the grace are dropped with a line each, the chain is told."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from consensus.runtime.inference.state import WorkerStatus
from node.client.chain_view import ChainUnreachable
from node.worker.departure import Departure
from node.worker.leaving import drain, tell_chain
from node.worker.presence import Presence
from node.worker.requests import Requests
from proto_specs.types.calls import LeaveWorker
from proto_specs.types.wire import FailureCode

WORKER = b"w" * 32


class FakeRequest:
    """Runs for some seconds, unless it is given up."""

    def __init__(self, name: int, seconds: float) -> None:
        self.request = bytes([name]) * 32
        self.given_up: FailureCode | None = None
        self._seconds = seconds
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            await trio.sleep(self._seconds)

    def give_up(self, code: FailureCode, _message: str) -> None:
        self.given_up = code
        self._scope.cancel()

    def get_progress(self) -> tuple[int, int]:
        return 40, 100


async def run_drain(
    running: list[FakeRequest], grace_s: float, undecided: list[int] | None = None
) -> tuple[float, Presence]:
    """Seconds that it took."""
    requests, presence, left = Requests(), Presence(), list(undecided or [])

    async def count() -> int:
        await trio.lowlevel.checkpoint()
        return left.pop(0) if left else 0

    async with trio.open_nursery() as nursery:
        for one in running:
            requests.add(one)  # type: ignore[arg-type]
            nursery.start_soon(requests.run, one)
        began_s = trio.current_time()
        await drain(requests, presence, count, "SIGTERM", grace_s)
        took_s = trio.current_time() - began_s
    return took_s, presence


async def test_nothing_to_wait_for_ends_at_once(autojump_clock: MockClock) -> None:
    took_s, presence = await run_drain([], 60)
    assert took_s == 0
    assert presence.leaving is not None
    assert "SIGTERM" in presence.leaving


async def test_what_finishes_in_time_is_not_dropped(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    running = [FakeRequest(1, 5), FakeRequest(2, 20)]
    took_s, _ = await run_drain(running, 60)
    assert 20 <= took_s < 21
    assert [one.given_up for one in running] == [None, None]
    assert "dropped" not in caplog.text


async def test_what_outlasts_the_grace_is_dropped_with_a_line_each(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    running = [FakeRequest(1, 5), FakeRequest(2, 200), FakeRequest(3, 300)]
    took_s, _ = await run_drain(running, 60)
    assert 60 <= took_s < 61
    assert [one.given_up for one in running] == [None, FailureCode.LEAVING, FailureCode.LEAVING]
    lines = [one.getMessage() for one in caplog.records if "dropped" in one.getMessage()]
    assert [one.split()[1] for one in lines] == [f"{'02' * 6}:", f"{'03' * 6}:"]
    assert all("40 of at most 100 positions" in one for one in lines)


async def test_it_stays_to_open_what_is_drawn(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    took_s, _ = await run_drain([], 60, [2, 1, 1, 0])
    assert 1 < took_s < 5
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    took_s, _ = await run_drain([], 3, [1] * 100)
    assert took_s == 3
    assert "1 requests wait for their verdict" in caplog.text


async def test_a_chain_that_does_not_answer_holds_nobody_up(autojump_clock: MockClock) -> None:
    async def count() -> int:
        raise ChainUnreachable("no node")

    began_s = trio.current_time()
    await drain(Requests(), Presence(), count, "SIGTERM", 60)
    assert trio.current_time() == began_s


@dataclass
class FakeLedger:
    status: WorkerStatus = WorkerStatus.ACTIVE
    peer_id: str = "own"
    hangs: bool = False
    sent: list[Any] = field(default_factory=list)

    @property
    def chain(self) -> FakeLedger:
        return self

    async def read(self, _query: Any, worker: bytes) -> Any:
        assert worker == WORKER
        if self.hangs:
            await trio.sleep_forever()
        return SimpleNamespace(status=self.status, peer_id=self.peer_id)

    async def send(self, call: Any) -> None:
        self.sent.append(call)


@pytest.mark.parametrize(
    ("ledger", "is_told"),
    [
        (FakeLedger(), True),
        (FakeLedger(status=WorkerStatus.ABSENT), False),
        (FakeLedger(status=WorkerStatus.RETIRING), False),
        (FakeLedger(peer_id="another"), False),
        (FakeLedger(hangs=True), False),
    ],
)
async def test_the_chain_is_told_by_whom_it_names(autojump_clock: MockClock, ledger: FakeLedger, is_told: bool) -> None:
    await tell_chain(ledger, WORKER, "own")  # type: ignore[arg-type]
    assert ledger.sent == ([LeaveWorker(WORKER)] if is_told else [])


async def test_a_departure_is_asked_once() -> None:
    departure = Departure()
    departure.ask("replaced", tells_chain=False)
    departure.ask("SIGTERM")
    await departure.wait_asked()
    assert (departure.reason, departure.tells_chain, departure.is_asked) == ("replaced", False, True)
