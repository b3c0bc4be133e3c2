"""Supervised processes: fed on standard input, started again when they die, never left behind by their node."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from node.machine import supervision as children_module
from node.machine.supervision import ChildProcess, supervise

CHILD = """
import json, os, sys
config = json.loads(sys.stdin.readline())
with open(config["log"], "a") as log:
    print(os.getpid(), config["text"], file=log, flush=True)
{then}
"""
WAIT_FOR_END = "sys.stdin.read()"
IGNORE_SIGNAL = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def make_child(log: Path, then: str) -> ChildProcess:
    config = {"log": str(log), "text": 'a "secret"\nü'}
    return ChildProcess("child", (sys.executable, "-c", CHILD.format(then=then)), config)


async def wait_for_lines(log: Path, count: int) -> list[int]:
    """Process ids of so many starts."""
    with trio.fail_after(20):
        while not log.exists() or log.read_text().count("secret") < count:
            await trio.sleep(0.02)
    return [int(line.split()[0]) for line in log.read_text().splitlines() if "secret" in line]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children_module, "BACKOFF_S", 0.01)
    monkeypatch.setattr(children_module, "STOP_TIMEOUT_S", 0.5)


async def test_it_gets_its_configuration_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, make_child(log, WAIT_FOR_END))
        (pid,) = await wait_for_lines(log, 1)
        assert is_alive(pid)
        nursery.cancel_scope.cancel()
    assert not is_alive(pid)
    assert log.read_text() == f'{pid} a "secret"\nü\n'


async def test_it_is_started_again_whenever_it_dies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, make_child(log, WAIT_FOR_END))
        for count in range(1, 4):
            pids = await wait_for_lines(log, count)
            os.kill(pids[-1], signal.SIGKILL)
        await wait_for_lines(log, 4)
        nursery.cancel_scope.cancel()
    assert "ended with status -9" in caplog.text
    assert "secret" not in caplog.text


async def test_one_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, make_child(log, IGNORE_SIGNAL))
        (pid,) = await wait_for_lines(log, 1)
        nursery.cancel_scope.cancel()
    assert not is_alive(pid)


async def test_one_that_reads_nothing_does_not_stop_its_supervisor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    child = ChildProcess("deaf", (sys.executable, "-c", "pass"), {"large": "x" * 1_000_000})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, child)
        with trio.fail_after(20):
            while caplog.text.count("starting it again") < 2:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


def test_secrets_are_not_in_the_process_list(tmp_path: Path) -> None:
    assert "secret" not in json.dumps(make_child(tmp_path, WAIT_FOR_END).argv)
