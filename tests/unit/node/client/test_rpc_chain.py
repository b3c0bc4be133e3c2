"""What serving reads of the chain: sessions that last long enough, bonds that bear a request, refusals that pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from consensus.runtime.inference import queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.settlement import compute_challenge_ppm
from consensus.runtime.inference.state import Session, SessionStatus, Worker, WorkerStatus
from consensus.state.overlay import Overlay
from consensus.state.reader import DictState
from genesis.dev import build_dev_spec
from node.client.chain_view import ChainUnreachable, ReadRefused
from node.client.rpc_chain import (
    HEIGHT_AGE_S,
    SLOW_AGE_S,
    RpcChain,
    list_worker_entries,
    make_session_entry,
    make_worker_entry,
    read_worker_entry,
)
from node.client.rpc_errors import RpcError

PARAMS = build_dev_spec().params.inference
SESSION = Session(bytes(32), bytes(32), bytes(32), SessionStatus.OPEN, 9, 100, 15, 60, 5, 2, 1, 10, 1_000, 20, False)
WORKER = Worker(
    bytes(32),
    bytes(32),
    0,
    2,
    WorkerStatus.ACTIVE,
    150 * 10**9,
    0,
    0,
    0,
    "peer",
    (),
    1,
    2,
    1,
    0,
    10**6,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
)


def test_a_session_takes_requests_while_a_notice_period_is_left() -> None:
    last = 1_000 - PARAMS.session_notice_blocks
    assert make_session_entry(bytes(32), SESSION, PARAMS, last).is_open
    assert not make_session_entry(bytes(32), SESSION, PARAMS, last + 1).is_open
    assert make_session_entry(bytes(32), SESSION, PARAMS, last + 1).is_settleable


@pytest.mark.parametrize(("status", "settleable"), [(SessionStatus.CLOSING, True), (SessionStatus.CLOSED, False)])
def test_a_session_under_notice_takes_none(status: SessionStatus, settleable: bool) -> None:
    entry = make_session_entry(bytes(32), replace(SESSION, status=status), PARAMS, 20)
    assert (entry.is_open, entry.is_settleable) == (False, settleable)
    assert (entry.escrow, entry.requests_left) == (60, 3)
    assert (entry.deposit, entry.released, entry.promisable) == (100, 15, 115)


def test_the_largest_request_a_bond_bears_is_the_chain_s_own() -> None:
    most = make_worker_entry(bytes(32), WORKER, PARAMS, is_jailed=False).gross_max
    assert compute_challenge_ppm(PARAMS, WORKER, most) <= 10**6
    with pytest.raises(Exception, match="unresolved"):
        compute_challenge_ppm(PARAMS, WORKER, most + 1)


@pytest.mark.parametrize("status", [WorkerStatus.RETIRING, WorkerStatus.EJECTED, WorkerStatus.RELEASED])
def test_only_an_active_worker_takes_work(status: WorkerStatus) -> None:
    entry = make_worker_entry(bytes(32), replace(WORKER, status=status), PARAMS, is_jailed=False)
    assert (entry.is_active, entry.is_leaving) == (False, True)


def test_an_absent_worker_takes_no_work_and_may_come_back() -> None:
    entry = make_worker_entry(bytes(32), replace(WORKER, status=WorkerStatus.ABSENT), PARAMS, is_jailed=False)
    assert (entry.is_active, entry.is_leaving, entry.is_absent) == (False, False, True)


def test_a_jailed_operator_s_workers_wait() -> None:
    state = Overlay(DictState())
    inference.params.write(state, PARAMS)
    inference.workers.write(state, b"w" * 32, WORKER)
    inference.workers_by_model.add(state, WORKER.model, b"w" * 32)
    inference.jails.write(state, WORKER.operator, 50)
    for height, is_active in ((49, False), (50, True)):
        entry = read_worker_entry(state, b"w" * 32, PARAMS, height)
        assert entry is not None
        assert (entry.is_active, entry.is_leaving) == (is_active, False)
        assert list_worker_entries(state, WORKER.model, PARAMS, height) == (entry,)


class FakeRpc:
    """Answers from a state, or fails; `asked` are the methods called."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.height = 7
        self.asked: list[str] = []
        self.state = Overlay(DictState())
        inference.params.write(self.state, PARAMS)

    async def call(self, method: str, *params: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        self.asked.append(method)
        if method == "state_getStorage":
            await trio.lowlevel.checkpoint()
            found = self.state.get(bytes.fromhex(params[0][2:]))
            return None if found is None else f"0x{found.hex()}"
        return {"chain_getHeader": {"height": self.height}, "chain_getBlockHash": "0x" + "ab" * 32}[method]


async def test_a_node_that_refuses_to_be_read_is_one_that_may_be_asked_later() -> None:
    chain = RpcChain(FakeRpc(RpcError(1, "slow down")), bytes(32))
    for ask in (chain.get_height(), chain.get_session(bytes(32)), chain.read(queries.read_worker, bytes(32))):
        with pytest.raises(ReadRefused):
            await ask
    chain = RpcChain(FakeRpc(ChainUnreachable("away")), bytes(32))
    with pytest.raises(ChainUnreachable):
        await chain.read(queries.read_worker, bytes(32))


async def test_what_the_chain_does_not_know_is_none() -> None:
    chain = await RpcChain.connect(FakeRpc())
    assert chain.genesis == b"\xab" * 32
    assert await chain.get_session(bytes(32)) is None
    assert await chain.get_worker(bytes(32)) is None
    assert await chain.get_manifest(bytes(32)) is None
    assert not await chain.is_sequence_used(bytes(32), 3)


async def test_what_changes_seldom_is_read_seldom(mock_clock: trio.testing.MockClock) -> None:
    """A request over a path asks for its session and each worker; only the session is read each time."""
    rpc = FakeRpc()
    inference.workers.write(rpc.state, b"w" * 32, WORKER)
    inference.sessions.write(rpc.state, b"s" * 32, SESSION)
    chain = RpcChain(rpc, bytes(32))

    async def ask() -> list[str]:
        rpc.asked.clear()
        session, worker = await chain.get_session(b"s" * 32), await chain.get_worker(b"w" * 32)
        assert session is not None
        assert worker is not None
        return sorted(rpc.asked)

    header, read = "chain_getHeader", "state_getStorage"
    assert await ask() == [header, read, read, read, read]  # parameters, session, worker, jail
    assert await ask() == [read]
    mock_clock.jump(HEIGHT_AGE_S)
    assert await ask() == [header, read]
    rpc.height = 8
    inference.workers.write(rpc.state, b"w" * 32, replace(WORKER, peer_id="moved"))
    moved = await chain.get_worker(b"w" * 32)
    assert moved is not None
    assert moved.peer_id == WORKER.peer_id
    mock_clock.jump(HEIGHT_AGE_S)
    assert await ask() == [header, read], "a block later too"
    mock_clock.jump(SLOW_AGE_S)
    assert await ask() == [header, read, read, read, read]
    moved = await chain.get_worker(b"w" * 32)
    assert moved is not None
    assert moved.peer_id == "moved"


async def test_who_asks_for_the_height_begins_anew() -> None:
    """As whoever sends a transaction does: what it changed is then not hidden by what was read before."""
    rpc = FakeRpc()
    chain = RpcChain(rpc, bytes(32))
    inference.workers.write(rpc.state, b"w" * 32, WORKER)
    await chain.get_worker(b"w" * 32)
    inference.workers.write(rpc.state, b"w" * 32, replace(WORKER, peer_id="moved"))
    await chain.get_height()
    moved = await chain.get_worker(b"w" * 32)
    assert moved is not None
    assert moved.peer_id == "moved"


async def test_a_worker_that_cannot_be_reached_is_read_anew() -> None:
    rpc = FakeRpc()
    chain = RpcChain(rpc, bytes(32))
    inference.workers.write(rpc.state, b"w" * 32, WORKER)
    await chain.get_worker(b"w" * 32)
    inference.workers.write(rpc.state, b"w" * 32, replace(WORKER, peer_id="moved"))
    for fresh, peer_id in ((False, WORKER.peer_id), (True, "moved"), (False, "moved")):
        found = await chain.get_worker(b"w" * 32, fresh=fresh)
        assert found is not None
        assert found.peer_id == peer_id


async def test_a_worker_that_is_not_there_is_asked_for_again() -> None:
    rpc = FakeRpc()
    chain = RpcChain(rpc, bytes(32))
    assert await chain.get_worker(b"w" * 32) is None
    inference.workers.write(rpc.state, b"w" * 32, WORKER)
    assert await chain.get_worker(b"w" * 32) is not None


async def test_who_asks_at_the_same_time_shares_the_answer() -> None:
    rpc = FakeRpc()
    chain = RpcChain(rpc, bytes(32))
    inference.workers.write(rpc.state, b"w" * 32, WORKER)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(chain.get_worker, b"w" * 32)
    assert rpc.asked.count("chain_getHeader") == 1
