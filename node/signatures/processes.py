"""Keeps the checking processes alive and deals batches out to them (trio). What a process fails to answer, we check."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import trio

from node.machine.supervision import keep_running
from node.signatures.jobs import COUNT, JOBS_MAX, SignatureJob, check_encoded, encode_jobs

logger = logging.getLogger("myelin.signatures")

COMMAND = (sys.executable, "-m", "node.signatures")
PROCESSES_MAX = 8
JOBS_INLINE_MAX = 4
"""So few are checked at once here: a way to another process and back takes as long."""


class SignatureProcesses:
    """`run` keeps the processes; `check` may be called from any task of the loop, also while none is up."""

    def __init__(self, processes: int | None = None) -> None:
        """As many processes as cores, unless told otherwise; none on a machine with one core."""
        cores = len(os.sched_getaffinity(0))
        count = processes if processes is not None else (min(cores, PROCESSES_MAX) if cores > 1 else 0)
        self._workers = [_Worker() for _ in range(count)]

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. A process that ends is started again."""
        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                await nursery.start(worker.run)
            task_status.started()

    async def check(self, jobs: Sequence[SignatureJob]) -> list[bool]:
        """Whether each signature is valid, in order."""
        if len(jobs) <= JOBS_INLINE_MAX or not self._workers:
            return await _check_here(jobs)
        share = min(-(-len(jobs) // len(self._workers)), JOBS_MAX)
        parts = [jobs[at : at + share] for at in range(0, len(jobs), share)]
        answers: list[list[bool]] = [[] for _ in parts]

        async def check_part(place: int) -> None:
            worker = self._workers[place % len(self._workers)]
            answers[place] = await worker.check(parts[place])

        async with trio.open_nursery() as nursery:
            for place in range(len(parts)):
                nursery.start_soon(check_part, place)
        return [one for part in answers for one in part]


class _Worker:
    """One process and its pipes; one batch at a time."""

    def __init__(self) -> None:
        self._process: trio.Process | None = None
        self._turn = trio.Lock()

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the process until cancelled; started once the first one is there."""
        has_started = False

        async def use(process: trio.Process) -> None:
            nonlocal has_started
            self._process = process
            if not has_started:
                has_started = True
                task_status.started()
            try:
                await process.wait()
            finally:
                self._process = None

        await keep_running("a signature process", COMMAND, use, is_answering=True)

    async def check(self, jobs: Sequence[SignatureJob]) -> list[bool]:
        async with self._turn:
            process = self._process
            if process is not None:
                try:
                    return await _ask(process, jobs)
                except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
                    logger.warning("a signature process went away in the middle of a batch: checking it here")
                except trio.Cancelled:
                    process.kill()  # its pipe holds half an exchange
                    raise
        return await _check_here(jobs)


async def _ask(process: trio.Process, jobs: Sequence[SignatureJob]) -> list[bool]:
    assert process.stdin is not None, "opened with pipes"
    assert process.stdout is not None, "opened with pipes"
    await process.stdin.send_all(encode_jobs(jobs))
    answer = b""
    while len(answer) < len(jobs):
        received = await process.stdout.receive_some(len(jobs) - len(answer))
        if not received:
            raise EOFError
        answer += received
    return [one == 1 for one in answer]


async def _check_here(jobs: Sequence[SignatureJob]) -> list[bool]:
    data = encode_jobs(jobs)[COUNT.size :]
    if len(jobs) <= JOBS_INLINE_MAX:
        return [one == 1 for one in check_encoded(data)]
    return [one == 1 for one in await trio.to_thread.run_sync(check_encoded, data)]
