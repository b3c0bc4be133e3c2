"""Settlements reach the chain or are given up for a reason; records stay as long as somebody may ask for them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from inference.serving.record import RequestRecord
from node.client.chain_view import ChainUnreachable
from node.client.errors import CallFailed, TransactionLost
from node.client.rpc_errors import RpcError
from node.client.tips import compute_tip
from node.worker.archive import POOL_S_MAX, RETRY_S, DiskRequestArchive
from node.worker.openings import OpeningUnavailable
from proto_specs.codec import decode, encode
from proto_specs.types.calls import Outcome, Settle
from proto_specs.types.request import Opening, OpeningRequest, compute_request_id
from tests.property.inference.serving.harness import Path, make_order
from tests.unit.node.worker.world import NONCE, FakeAccount

PROMPT = tuple(range(100, 145))


@dataclass
class World:
    directory: FilePath
    account: FakeAccount
    archive: DiskRequestArchive
    request: bytes
    settle: Settle
    records: dict[int, RequestRecord]

    @property
    def files(self) -> list[str]:
        return [path.name for path in (self.directory / "settlements").glob("*.settle")]

    def restart(self) -> None:
        self.archive = DiskRequestArchive(self.directory, self.account)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: FilePath) -> World:
    outcome = Path(make_order(PROMPT, 40, 3), PROMPT, None, seed=9).run()
    assert outcome.settlement is not None
    account = FakeAccount()
    request = compute_request_id(outcome.settlement.order.order)
    archive = DiskRequestArchive(tmp_path, account)  # type: ignore[arg-type]
    return World(tmp_path, account, archive, request, outcome.settlement, outcome.records)


async def test_a_settlement_is_sent_once_and_gone_when_it_is_on_chain(world: World, autojump_clock) -> None:
    assert await world.archive.settle(world.request, world.settle) == b"\x01" * 32
    assert len(world.files) == 1
    for _ in range(4):
        await trio.sleep(RETRY_S)
        await world.archive.run_once()
    assert world.account.sent == [world.settle]
    world.account.requests[world.request] = SimpleNamespace(open_stages=3)
    await world.archive.run_once()
    assert world.files == []


async def test_a_node_that_was_away_gets_the_settlement_later(world: World, autojump_clock) -> None:
    world.account.is_reachable = False
    assert await world.archive.settle(world.request, world.settle) is None
    assert len(world.files) == 1
    with pytest.raises(ChainUnreachable):
        await world.archive.run_once()
    world.account.is_reachable = True
    await world.archive.run_once()
    assert world.account.sent == [world.settle]


async def test_a_process_killed_between_writing_and_sending_sends_after_its_restart(world: World) -> None:
    class Killed(BaseException):
        pass

    async def kill(*_: object) -> bytes:
        raise Killed

    send, world.account.send = world.account.send, kill  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await world.archive.settle(world.request, world.settle)
    world.account.send = send  # type: ignore[method-assign]
    world.restart()
    await world.archive.run_once()
    assert world.account.sent == [world.settle]


async def test_a_round_during_the_first_sending_does_not_send_twice(world: World) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.archive.settle, world.request, world.settle)
        while not world.files:
            await trio.lowlevel.checkpoint()
        await world.archive.run_once()
    assert world.account.sent == [world.settle]


async def test_a_settlement_the_node_lost_is_sent_again(world: World, autojump_clock) -> None:
    await world.archive.settle(world.request, world.settle)
    world.account.outcomes[b"\x01" * 32] = TransactionLost("unknown")
    await world.archive.run_once()
    assert len(world.account.sent) == 1, "not before it is due"
    await trio.sleep(RETRY_S + 1)
    await world.archive.run_once()
    assert len(world.account.sent) == 2


async def test_a_settlement_that_waits_in_full_blocks_is_sent_for_ever_more_in_its_own_place(
    world: World, autojump_clock
) -> None:
    """The attack: blocks are filled until the session is closed, and the bill is not paid."""
    await world.archive.settle(world.request, world.settle)
    for _ in range(3):
        await world.archive.run_once()
        await trio.sleep(POOL_S_MAX)
    await world.archive.run_once()
    assert world.account.terms == [(0, None), *((compute_tip(tries), NONCE) for tries in (1, 2, 3))]
    assert len(world.files) == 1


async def test_a_settlement_the_chain_refuses_for_good_costs_one_fee(world: World, autojump_clock) -> None:
    await world.archive.settle(world.request, world.settle)
    world.account.outcomes[b"\x01" * 32] = CallFailed("Settle", "inference", "EscrowTooLow")
    await trio.sleep(RETRY_S + 1)
    await world.archive.run_once()
    assert world.files == []
    assert len(world.account.sent) == 1


async def test_a_bond_that_is_too_laden_is_waited_for_ever_longer(world: World, autojump_clock) -> None:
    await world.archive.settle(world.request, world.settle)
    for number in range(1, 200):
        world.account.outcomes[bytes([number]) * 32] = CallFailed("Settle", "inference", "ExposureExceeded")
    for _ in range(100):
        await trio.sleep(RETRY_S)
        await world.archive.run_once()
    assert len(world.files) == 1
    assert 5 <= len(world.account.sent) <= 10


async def test_a_refusal_by_the_pool_is_tried_again(world: World) -> None:
    world.account.refusal = RpcError(1, "the pool is full")
    assert await world.archive.settle(world.request, world.settle) is None
    world.account.refusal = None
    await world.archive.run_once()
    assert world.account.sent == [world.settle]


@pytest.mark.parametrize("session", [None, SimpleNamespace(is_settleable=False)])
async def test_a_closed_session_ends_the_trying(world: World, session: object) -> None:
    world.account.is_reachable = False
    await world.archive.settle(world.request, world.settle)
    world.account.is_reachable, world.account.session = True, session
    await world.archive.run_once()
    assert world.files == []
    assert world.account.sent == []


async def test_the_loop_outlives_a_node_that_is_away_or_refuses(world: World, autojump_clock) -> None:
    await world.archive.retain(world.records[0])
    failures: list[Exception] = [ChainUnreachable("away"), RpcError(1, "slow down"), ChainUnreachable("away")]

    async def fail(request: bytes) -> Any:
        if failures:
            raise failures.pop()
        return SimpleNamespace(open_stages=0)

    world.account.get_request = fail  # type: ignore[method-assign]
    with trio.move_on_after(10 * RETRY_S):
        await world.archive.run()
    assert failures == []
    assert world.archive.openings.list_kept() == []


async def test_records_stay_until_every_stage_is_resolved(world: World) -> None:
    await world.archive.retain(world.records[1])
    for found in (None, SimpleNamespace(open_stages=3), SimpleNamespace(open_stages=1)):
        world.account.requests[world.request] = found
        await world.archive.run_once()
        assert world.archive.openings.list_kept() == [(world.request, 1)]
    world.account.requests[world.request] = SimpleNamespace(open_stages=0)
    await world.archive.run_once()
    assert world.archive.openings.list_kept() == []


async def test_a_record_that_was_never_settled_is_forgotten_after_a_day(world: World) -> None:
    await world.archive.retain(world.records[1])
    (path,) = (world.directory / "openings").iterdir()
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 25 * 3600))
    await world.archive.run_once()
    assert world.archive.openings.list_kept() == []


async def test_a_request_that_was_settled_up_to_a_prefix_is_opened_under_those_roots(world: World) -> None:
    """Somebody of the path settled earlier windows than this stage keeps: the leaf hashes are those of the roots."""
    await world.archive.retain(world.records[1])
    world.account.requests[world.request] = make_settled(2)
    world.account.challenge = SimpleNamespace(window=1, point=None, outcome=None)
    opening = decode(Opening, await world.archive.open(encode(OpeningRequest(world.request, 1, 1))))
    assert len(opening.input_hashes) == len(opening.output_hashes) == 2
    world.account.requests.clear()
    with pytest.raises(OpeningUnavailable):
        await world.archive.open(encode(OpeningRequest(world.request, 1, 1)))


async def test_only_the_drawn_window_is_opened_and_only_while_it_is_open(world: World) -> None:
    await world.archive.retain(world.records[1])
    world.account.requests[world.request] = make_settled(3)
    asked = encode(OpeningRequest(world.request, 1, 2))
    refused = [
        None,
        SimpleNamespace(window=1, point=None, outcome=None),
        SimpleNamespace(window=2, point=None, outcome=Outcome.PASS),
    ]
    for world.account.challenge in refused:
        with pytest.raises(OpeningUnavailable):
            await world.archive.open(asked)
    world.account.challenge = SimpleNamespace(window=2, point=None, outcome=None)
    opening = decode(Opening, await world.archive.open(asked))
    assert opening.output_leaf.leaf.window == 2
    world.account.is_reachable = False
    with pytest.raises(OpeningUnavailable):
        await world.archive.open(asked)


def make_settled(windows: int) -> SimpleNamespace:
    """A request whose stages settled so many windows each."""
    return SimpleNamespace(open_stages=3, stages=[SimpleNamespace(windows=windows)] * 3)
