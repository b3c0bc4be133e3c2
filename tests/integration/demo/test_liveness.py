"""Real workers that die, leave and start twice: what the chain says of each, and what becomes of running answers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import WorkerStatus
from node.client.probing import ProbeFailed, probe_worker
from node.keys.derivation import KeyKind
from node.keys.keystore import get_dev_key
from node.localnet.commands import WorkerCommand
from node.localnet.plan import WorkerPlan
from node.p2p.host import open_host
from proto_specs.errors import ExitStatus
from proto_specs.types.probe import WorkerReport
from tests.integration.demo.conftest import Running

pytestmark = [pytest.mark.slow, pytest.mark.leaves_open]

POLL_S = 0.1
LONG = ("Tell me a long story about a river.", "--tokens", "120")


def make_argv(running: Running, worker: WorkerPlan, base: Path, node: str | None = None) -> list[str]:
    """`myelin worker run` as the network starts it; with another node key and directory it is a second one."""
    where = (worker.start, worker.end, running.rpc_url)
    argv = list(WorkerCommand(worker.name, base, running.plan.model, Path(running.plan.models), *where).make_argv())
    if node is not None:
        argv[argv.index("--node") + 1] = node
    return argv


async def read_status(running: Running, worker: WorkerPlan) -> WorkerStatus:
    found = await running.chain.read(queries.read_worker, get_dev_key(worker.name, KeyKind.WORKER).public_key)
    assert found is not None
    return WorkerStatus(found.status)


async def wait_status(running: Running, worker: WorkerPlan, wanted: WorkerStatus, within_s: float) -> None:
    with trio.fail_after(within_s):
        while await read_status(running, worker) is not wanted:
            await trio.sleep(POLL_S)


async def wait_report(running: Running, worker: WorkerPlan, holds: Callable[[WorkerReport], bool]) -> WorkerReport:
    """A report of the running worker as wanted."""
    key = get_dev_key(worker.name, KeyKind.WORKER).public_key
    with trio.fail_after(60):
        async with open_host(os.urandom(32), []) as host:
            while True:
                entries = await running.chain.list_workers(running.model)
                (entry,) = [one for one in entries if one.worker == key]
                try:
                    report, _ = await probe_worker(host, entry, running.chain.genesis, 2.0)
                    if holds(report):
                        return report
                except ProbeFailed:
                    pass
                await trio.sleep(POLL_S)


async def test_workers_that_start_twice_die_and_leave(running: Running, tmp_path: Path) -> None:
    last = running.plan.workers[-1]
    await refuse_a_second_start(running, last, tmp_path)
    await running.network.kill(last.name)
    await wait_status(running, last, WorkerStatus.ABSENT, 90)
    status, found, errors = await running.infer("Anybody there?", "--tokens", "4")
    assert status != ExitStatus.DONE, found
    assert "no worker" in errors or "nobody" in errors or "layers" in errors
    await leave_in_mid_answer(running, last, tmp_path / last.name, tmp_path / "leaver.log")


async def refuse_a_second_start(running: Running, worker: WorkerPlan, directory: Path) -> None:
    argv = make_argv(running, worker, directory / "second", node="dev:elsewhere")
    done = await trio.run_process(argv, check=False, capture_stderr=True, capture_stdout=True)
    assert done.returncode == ExitStatus.REFUSED
    last_line = done.stderr.decode().strip().splitlines()[-1]
    assert "runs already" in last_line
    assert "Traceback" not in done.stderr.decode()
    assert await read_status(running, worker) is WorkerStatus.ACTIVE


async def leave_in_mid_answer(running: Running, worker: WorkerPlan, base: Path, log: Path) -> None:
    with log.open("wb") as errors:
        process = await trio.lowlevel.open_process(make_argv(running, worker, base), stderr=errors)
    await wait_report(running, worker, lambda report: not report.is_leaving)
    await wait_status(running, worker, WorkerStatus.ACTIVE, 30)
    answers: list[tuple[int, dict[str, Any] | None, str]] = []

    async def ask() -> None:
        answers.append(await running.infer(*LONG))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_report(running, worker, lambda report: report.requests > 0)
        process.send_signal(signal.SIGTERM)
        assert (await wait_report(running, worker, lambda report: report.is_leaving)).requests > 0
        await wait_status(running, worker, WorkerStatus.ABSENT, 30)
    ((status, found, told),) = answers
    assert status == ExitStatus.DONE, told
    assert found is not None
    assert found["stages"] == ["paid"] * 3
    with trio.fail_after(30):
        assert await process.wait() == 0
    assert b"dropped" not in log.read_bytes()
