"""Every worker is asked in turn, few at once; a silent one sooner, then ever more rarely; who is forgotten is not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio

from node.client.chain_view import WorkerEntry
from node.client.probe_rounds import JITTER, PROBE_S, PROBES_AT_ONCE, PROBES_PER_S, RETRY_S_MAX, TICK_S, ProbeRounds
from node.client.worker_memory import WorkerMemory
from tests.unit.node.client.listings import ScriptedProbes, make_entry, make_report


class Rounds:
    def __init__(self, *entries: WorkerEntry) -> None:
        self.entries = list(entries)
        self.source = ScriptedProbes()
        self.memory = WorkerMemory()
        self.rounds = ProbeRounds(self.memory, self.source, random.Random(1))
        self.silent: list[bytes] = []

    async def note_silent(self, entry: WorkerEntry) -> None:
        self.silent.append(entry.worker)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.rounds.run, lambda: self.entries, self.note_silent)
            yield
            nursery.cancel_scope.cancel()


async def test_a_worker_is_asked_every_ten_seconds_or_so(autojump_clock: trio.abc.Clock) -> None:
    entry = make_entry("a")
    one = Rounds(entry)
    one.source.reports[entry.worker] = make_report(entry.worker, decode_us=700, kv_free=5)
    async with one.running():
        await trio.sleep(120)
    gaps = [after - before for before, after in pairwise(one.source.get_times(entry.worker))]
    assert len(gaps) > 8
    low, high = PROBE_S * (1 - JITTER), PROBE_S * (1 + JITTER) + 2 * TICK_S
    assert all(low <= gap <= high for gap in gaps)
    assert len({round(gap, 3) for gap in gaps}) > 1, "not in step with everybody else"
    figures = one.memory.get_figures(entry.worker, trio.current_time())
    assert (figures.decode_us, figures.kv_free, figures.round_trip_us) == (700, 5, 10_000)


async def test_a_silent_worker_is_left_out_at_once_and_asked_again_ever_more_rarely(
    autojump_clock: trio.abc.Clock,
) -> None:
    entry = make_entry("a")
    one = Rounds(entry)
    one.source.dead = set(entry.addresses)
    async with one.running():
        await trio.sleep(1)
        assert one.memory.is_avoided(entry.worker, trio.current_time())
        await trio.sleep(400)
        gaps = [after - before for before, after in pairwise(one.source.get_times(entry.worker))]
        assert gaps[0] < 2
        assert gaps[-1] > RETRY_S_MAX * (1 - JITTER)
        assert all(gap < RETRY_S_MAX * (1 + JITTER) + 1 for gap in gaps)
        assert len(one.silent) == len(one.source.asked)
        one.source.dead.clear()
        await trio.sleep(RETRY_S_MAX * 2)
        assert not one.memory.is_avoided(entry.worker, trio.current_time())
    assert one.source.get_times(entry.worker)[-1] - one.source.get_times(entry.worker)[-2] < PROBE_S * 2


async def test_one_that_is_hurried_is_asked_now(autojump_clock: trio.abc.Clock) -> None:
    entry = make_entry("a")
    one = Rounds(entry)
    async with one.running():
        await trio.sleep(1)
        one.rounds.hurry(entry.worker)
        await trio.sleep(1)
    assert len(one.source.asked) == 2


@pytest.mark.parametrize("count", [50, 1_000])
async def test_many_are_asked_few_at_once_and_all_in_turn(autojump_clock: trio.abc.Clock, count: int) -> None:
    entries = [make_entry(f"w{at}") for at in range(count)]
    one = Rounds(*entries)
    one.source.takes_s = 0.1
    span_s = 4 * max(PROBE_S, count / PROBES_PER_S)
    async with one.running():
        await trio.sleep(span_s)
    assert one.source.running_max == PROBES_AT_ONCE
    times = [len(one.source.get_times(entry.worker)) for entry in entries]
    assert min(times) >= 2
    assert len(one.source.asked) <= PROBES_PER_S * span_s * 1.5 + count


async def test_who_is_no_longer_listed_is_not_asked(autojump_clock: trio.abc.Clock) -> None:
    one = Rounds(make_entry("a"), make_entry("b"))
    async with one.running():
        await trio.sleep(1)
        del one.entries[0]
        one.source.asked.clear()
        await trio.sleep(30)
    assert {worker for _, worker in one.source.asked} == {make_entry("b").worker}
