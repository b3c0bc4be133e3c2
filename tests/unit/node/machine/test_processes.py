"""Real processes: a recycled id is never killed, a zombie is gone, a paused process still ends."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import trio

from node.machine import processes
from node.machine.processes import Identity, RunState, get_run_state, spawn


def spawn_python(tmp_path: Path, code: str) -> Identity:
    return spawn([sys.executable, "-c", code], tmp_path / "log", os.environ)


SLEEP = "import time; time.sleep(60)"


async def test_a_process_with_a_recycled_id_is_left_alone(tmp_path: Path) -> None:
    identity = spawn_python(tmp_path, SLEEP)
    somebody_else = dataclasses.replace(identity, started="another boot:1")
    assert get_run_state(somebody_else) is RunState.GONE
    assert not await processes.kill(somebody_else)
    await processes.stop(somebody_else)
    assert get_run_state(identity) is RunState.RUNNING
    assert await processes.kill(identity)
    assert get_run_state(identity) is RunState.GONE


async def test_a_process_that_ended_is_gone_and_its_output_is_kept(tmp_path: Path) -> None:
    for _ in range(2):
        identity = spawn_python(tmp_path, "import sys; print('out'); print('err', file=sys.stderr)")
        with trio.fail_after(10):
            await processes.wait_until_gone(identity)
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "err", "out", "out"]


async def test_paused_is_seen_and_stopped_all_the_same(tmp_path: Path) -> None:
    identity = spawn_python(tmp_path, SLEEP)
    assert processes.send_to_group(identity, signal.SIGSTOP)
    with trio.fail_after(10):
        while get_run_state(identity) is not RunState.PAUSED:
            await trio.lowlevel.checkpoint()
        await processes.stop(identity)
    assert get_run_state(identity) is RunState.GONE


async def test_who_ignores_being_asked_is_killed_with_its_children(tmp_path: Path, autojump_clock: object) -> None:
    child = tmp_path / "child"
    code = (
        "import pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])\n"
        f"pathlib.Path({str(child)!r} + '.part').write_text(str(child.pid))\n"
        f"pathlib.Path({str(child)!r} + '.part').rename({str(child)!r})\n"
        "time.sleep(60)\n"
    )
    identity = spawn_python(tmp_path, code)
    while not child.exists():
        await trio.lowlevel.checkpoint()
    await processes.stop(identity)
    assert get_run_state(identity) is RunState.GONE
    pid = int(child.read_text())
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        await trio.lowlevel.checkpoint()
