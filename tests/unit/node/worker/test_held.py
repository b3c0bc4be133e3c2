"""A last stage waits for a statement as long as one may come, and not a moment longer than its payment is safe."""

from __future__ import annotations

import os
from pathlib import Path as FilePath

import pytest
import trio

from node.worker.held import HELD_S
from node.worker.signed_statements import LAND_BLOCKS
from proto_specs.types.calls import SettleStatement
from tests.unit.node.worker.stating import Stating, propose
from tests.unit.node.worker.world import SESSION, change_session


@pytest.fixture
def world(tmp_path: FilePath) -> Stating:
    return Stating(tmp_path)


async def test_what_no_statement_comes_for_settles_by_itself(world: Stating, autojump_clock) -> None:
    for sequence in range(2):
        await world.serve(sequence)
    await world.turn()
    await trio.sleep(HELD_S - 1)
    await world.turn()
    assert world.settled_singly == []
    await trio.sleep(2)
    await world.turn()
    assert world.settled_singly == [0, 1]
    assert not len(world.archives[-1].held)
    await world.turn()
    assert world.settled_singly == [0, 1], "once"


async def test_the_wait_goes_on_after_a_restart(world: Stating, autojump_clock) -> None:
    await world.serve(0)
    (path,) = (world.directory / "2" / "held").iterdir()
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - HELD_S + 10))
    world.restart()
    await world.turn()
    assert world.settled_singly == []
    await trio.sleep(11)
    await world.turn()
    assert world.settled_singly == [0]


async def test_a_signed_statement_is_waited_for_a_few_blocks(world: Stating, autojump_clock) -> None:
    finished = [await world.serve(sequence) for sequence in range(2)]
    await world.sign(propose(finished[:1]))
    await trio.sleep(HELD_S + 1)
    world.ledger.pass_blocks(LAND_BLOCKS)
    await world.turn()
    assert world.settled_singly == [1], "in no statement"
    world.ledger.pass_blocks(1)
    await world.turn()
    assert world.settled_singly == [1, 0]


async def test_a_late_statement_changes_nothing(world: Stating, autojump_clock) -> None:
    finished = [await world.serve(sequence) for sequence in range(2)]
    signed = await world.sign(propose(finished))
    world.ledger.pass_blocks(LAND_BLOCKS + 1)
    await trio.sleep(HELD_S + 1)
    await world.turn()
    assert world.settled_singly == [0, 1]
    earned = world.ledger.earned.total()
    await world.accounts[0].send(SettleStatement(signed))
    assert (world.ledger.refused, world.ledger.earned.total()) == (["SettleStatement"], earned)


async def test_a_statement_on_chain_ends_the_wait(world: Stating, autojump_clock) -> None:
    finished = [await world.serve(sequence) for sequence in range(2)]
    await world.accounts[0].send(SettleStatement(await world.sign(propose(finished))))
    await world.turn()
    assert not len(world.archives[-1].held)
    await trio.sleep(10 * HELD_S)
    await world.turn()
    assert world.settled_singly == []


async def test_a_session_that_closes_is_settled_at_once(world: Stating) -> None:
    finished = [await world.serve(sequence) for sequence in range(2)]
    await world.sign(propose(finished[:1]))
    height = world.ledger.view.sessions[SESSION].height
    change_session(world.ledger.view, is_open=False, expiry_height=height + LAND_BLOCKS + 1)
    await world.turn()
    assert world.settled_singly == [1], "the statement over the other one may still come"
    world.ledger.pass_blocks(1)
    await world.turn()
    assert world.settled_singly == [1, 0]


async def test_what_the_bond_hardly_bears_is_settled_oldest_first(world: Stating, autojump_clock) -> None:
    for sequence in range(4):
        await world.serve(sequence)
        await trio.sleep(1)
    held = world.archives[-1].held
    held.gross_max = 600  # one of them earns this stage 128 nmyl: half the bond bears two
    await world.turn()
    assert world.settled_singly == [0, 1]


async def test_a_worker_that_leaves_waits_for_nothing(world: Stating) -> None:
    finished = [await world.serve(sequence) for sequence in range(2)]
    await world.sign(propose(finished[:1]))
    world.archives[-1].held.is_leaving = True
    await world.turn()
    assert world.settled_singly == [1]


async def test_a_damaged_file_is_no_obstacle(world: Stating, autojump_clock) -> None:
    await world.serve(0)
    await world.serve(1)
    paths = sorted((world.directory / "2" / "held").iterdir())
    paths[0].write_bytes(b"garbage")
    world.restart()
    await world.turn()
    await trio.sleep(HELD_S + 1)
    await world.turn()
    assert len(world.settled_singly) == 1
