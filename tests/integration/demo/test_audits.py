"""Audits between real processes: workers earn emission by what is drawn, idle or busy, and a cheat earns nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.state import Worker
from consensus.state.reader import StateReader
from node.cli.demo import make_cheating_program
from tests.integration.demo.conftest import Running, open_running

pytestmark = [pytest.mark.slow, pytest.mark.leaves_open]

WITHIN_S = 120.0


def read_scores(state: StateReader, model: bytes) -> dict[int, tuple[int, Worker]]:
    """By first layer, audit score and worker."""
    return {one.start: (inference.scores.read(state, key) or 0, one) for key, one in queries.list_workers(state, model)}


async def wait_scores(running: Running, starts: set[int], least: int) -> dict[int, tuple[int, Worker]]:
    with trio.fail_after(WITHIN_S):
        while True:
            found = await running.chain.read(read_scores, running.model)
            # A read of several records may see a block's half.
            if all(found[one][0] >= least and found[one][1].earned for one in starts):
                return found
            await trio.sleep(0.5)


async def test_audits_are_passed_by_honest_workers_alone(tmp_path: Path) -> None:
    programs = {"charlie": make_cheating_program("quantise")}
    async with open_running(tmp_path, programs) as running:
        honest = {0, 20}
        found = await wait_scores(running, honest, 1)
        before = max(found[one][0] for one in honest)
        async with trio.open_nursery() as nursery:  # requests of three stages, one of which cheats
            nursery.start_soon(running.infer, "Write a long story about a whale.", "--tokens", "200")
            found = await wait_scores(running, honest, before + 1)
        score, cheat = found[10]
        assert (score, cheat.earned) == (0, 0)
