"""Statements asked for in bad faith: to pay less, to pay nobody, to pay one of two, and signed without being opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
import trio

from inference.serving.finished import FinishedRequest
from node.client.batches import make_finished_leaf
from node.worker.held import HELD_S
from node.worker.signed_statements import LAND_BLOCKS
from proto_specs.types.calls import Outcome, SettleStatement
from proto_specs.types.statement_wire import StatementProposal, StatementRefused
from tests.unit.node.verifier.test_statement_duty import StatedWorld
from tests.unit.node.worker.stating import PROMPT, STAGES, Stating, compute_earned, propose, propose_leaves

REQUESTS = 3


@pytest.fixture
def world(tmp_path: FilePath) -> Stating:
    return Stating(tmp_path)


async def serve(world: Stating) -> list[FinishedRequest]:
    return [await world.serve(sequence) for sequence in range(REQUESTS)]


async def wait_long(world: Stating) -> None:
    """As long as any stage waits for a statement, and for one that it has signed."""
    await world.turn()
    await trio.sleep(HELD_S + 1)
    world.ledger.pass_blocks(LAND_BLOCKS + 1)
    await world.turn()


def state_less(finished: list[FinishedRequest]) -> StatementProposal:
    """All of the answers but their first tokens are left out."""
    leaves = [
        replace(make_finished_leaf(one), tokens=1, tokens_hash=b"h" * 32, positions=len(PROMPT)) for one in finished
    ]
    return propose_leaves(leaves, finished[0])


async def test_a_client_that_states_fewer_tokens_pays_all_of_them(world: Stating, autojump_clock) -> None:
    finished = await serve(world)
    for stage in range(STAGES):
        assert isinstance(await world.ask(stage, state_less(finished)), StatementRefused)
    await wait_long(world)
    assert world.ledger.earned.total() == compute_earned(finished)


async def test_it_would_pay_less_if_workers_looked_at_no_record(world: Stating, monkeypatch, autojump_clock) -> None:
    finished = await serve(world)
    monkeypatch.setattr("node.worker.statement_desk.check_claimed", lambda *_: None)
    await world.accounts[0].send(SettleStatement(await world.sign(state_less(finished))))
    await wait_long(world)
    assert world.ledger.earned.total() < compute_earned(finished)


async def test_a_client_that_never_submits_saves_nothing(world: Stating, autojump_clock) -> None:
    finished = await serve(world)
    await world.sign(propose(finished))
    await wait_long(world)
    assert world.ledger.earned.total() == compute_earned(finished)


async def test_a_client_that_never_asks_saves_nothing(world: Stating, autojump_clock) -> None:
    finished = await serve(world)
    world.restart()
    await wait_long(world)
    assert world.ledger.earned.total() == compute_earned(finished)


async def test_it_would_pay_nobody_if_workers_waited_for_what_they_signed(
    world: Stating, monkeypatch, autojump_clock
) -> None:
    finished = await serve(world)
    monkeypatch.setattr(world.archives[-1].signed, "is_landing", lambda *_: True)
    await world.sign(propose(finished))
    await wait_long(world)
    assert world.ledger.earned.total() == 0


@pytest.mark.parametrize("first", [0, 1])
async def test_two_statements_over_one_request_pay_every_request_once(
    world: Stating, first: int, autojump_clock
) -> None:
    """Either of them may come on chain, and the other never: what it held besides settles by itself."""
    finished = await serve(world)
    signed = [await world.sign(propose(finished[:2])), await world.sign(propose(finished[1:]))]
    for one in (signed[first], signed[1 - first]):
        await world.accounts[0].send(SettleStatement(one))
    assert world.ledger.refused == ["SettleStatement"]
    await wait_long(world)
    assert world.ledger.earned.total() == compute_earned(finished)
    assert world.settled_singly == [2 * (1 - first)]


async def test_without_settlements_of_their_own_the_rest_would_be_lost(
    world: Stating, monkeypatch, autojump_clock
) -> None:
    finished = await serve(world)
    signed = await world.sign(propose(finished[:2]))
    await world.sign(propose(finished[1:]))
    for request in [one.request for one in finished]:
        world.archives[-1].held.drop(request)
    await world.accounts[0].send(SettleStatement(signed))
    await wait_long(world)
    assert world.ledger.earned.total() == compute_earned(finished[:2])


@pytest.mark.parametrize("point", [0, 60, 163])
async def test_a_worker_that_signs_and_never_opens_is_said_not_to(
    tmp_path: FilePath, monkeypatch, point: int, autojump_clock
) -> None:
    """What that costs is the chain's (tests of withheld stages): as much as the whole statement stands for."""
    world = StatedWorld(tmp_path, monkeypatch)
    await world.settle()
    world.is_silent = True
    world.verifier.chain.height = 18
    assert await world.draw(1, point) is Outcome.UNAVAILABLE


async def test_a_worker_that_lost_its_record_does_not_sign(world: Stating) -> None:
    """It could not open what it signs, and would be punished for it: the others settle without a statement."""
    finished = await serve(world)
    world.archives[1].openings.delete(finished[0].request, 1)
    world.restart()
    answer: Any = await world.ask(1, propose(finished))
    assert answer.requests == (finished[0].request,)
    await world.sign(propose(finished[1:]))
