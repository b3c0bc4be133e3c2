"""Real checking processes: right answers in order, also when one is killed in the middle of a batch or none is up."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from genesis.dev import get_dev_identity
from node.signatures.jobs import JOBS_MAX, SignatureJob
from node.signatures.processes import SignatureProcesses
from proto_specs.hashing import Tag, hash_tagged

KEYS = [get_dev_identity(f"signer {number}").account_key for number in range(8)]


def make_jobs(count: int) -> tuple[list[SignatureJob], list[bool]]:
    """Jobs of which every third is spoiled in one of four ways, and what is to be said of each."""
    jobs, expected = [], []
    for number in range(count):
        key, payload = KEYS[number % len(KEYS)], number.to_bytes(4, "big")
        signature = key.sign(Tag.EXTRINSIC_SIGN, payload)
        job = SignatureJob(key.public_key, hash_tagged(Tag.EXTRINSIC_SIGN, payload), signature)
        if number % 3 == 0:
            job = [
                replace(job, signature=bytes(64)),
                replace(job, digest=bytes(32)),
                replace(job, public_key=KEYS[(number + 1) % len(KEYS)].public_key),
                replace(job, public_key=bytes(32)),
            ][number // 3 % 4]
        jobs.append(job)
        expected.append(number % 3 != 0)
    return jobs, expected


@asynccontextmanager
async def open_processes(count: int) -> AsyncIterator[SignatureProcesses]:
    processes = SignatureProcesses(count)
    async with trio.open_nursery() as nursery:
        await nursery.start(processes.run)
        yield processes
        nursery.cancel_scope.cancel()


def get_pids(processes: SignatureProcesses) -> list[int]:
    return [one._process.pid for one in processes._workers if one._process is not None]  # noqa: SLF001


async def test_answers_are_right_and_in_order_whatever_the_batch_s_size() -> None:
    async with open_processes(2) as processes:
        for count in (0, 1, 4, 5, 6, 101, 1_000):
            jobs, expected = make_jobs(count)
            assert await processes.check(jobs) == expected


async def test_a_batch_beyond_what_one_frame_takes() -> None:
    jobs, expected = make_jobs(60)
    times = 2 * JOBS_MAX // 60 + 1
    async with open_processes(1) as processes:
        assert await processes.check(jobs * times) == expected * times


async def test_batches_of_many_tasks_do_not_mix() -> None:
    async with open_processes(2) as processes, trio.open_nursery() as nursery:

        async def ask(count: int) -> None:
            jobs, expected = make_jobs(count)
            assert await processes.check(jobs) == expected

        for count in range(5, 45):
            nursery.start_soon(ask, count)


async def test_a_killed_process_loses_nothing_and_another_takes_its_place() -> None:
    jobs, expected = make_jobs(1_500)
    async with open_processes(2) as processes:
        old = get_pids(processes)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert await processes.check(jobs) == expected

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            os.kill(old[0], signal.SIGKILL)
        with trio.fail_after(20):
            while len(get_pids(processes)) < 2:
                await trio.sleep(0.02)
        assert old[0] not in get_pids(processes)
        assert await processes.check(jobs[:50]) == expected[:50]


async def test_a_cancelled_check_does_not_answer_the_next_one() -> None:
    """Half an exchange left in a pipe would shift every later answer by a batch."""
    jobs, expected = make_jobs(2_000)
    async with open_processes(1) as processes:
        with trio.move_on_after(0.02):
            await processes.check(jobs)
        assert await processes.check(list(reversed(jobs[:500]))) == list(reversed(expected[:500]))


async def test_without_processes_we_check_ourselves() -> None:
    jobs, expected = make_jobs(30)
    assert await SignatureProcesses(0).check(jobs) == expected
    assert await SignatureProcesses(2).check(jobs) == expected, "not started yet"


async def test_nothing_is_left_behind() -> None:
    async with open_processes(2) as processes:
        pids = get_pids(processes)
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110
