"""Child processes: started, used, restarted when they end, stopped with grace. Knows nothing of what they run.

A child's standard input stays open as long as its parent lives; its end tells the child that the parent is gone.
Secrets travel on it too, so that no process list shows them.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

logger = logging.getLogger("myelin.node")

BACKOFF_S = 0.5
BACKOFF_S_MAX = 10.0
HEALTHY_S = 20.0
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ChildProcess:
    """A program to keep running, and the JSON object that is the first line of its standard input."""

    name: str
    argv: tuple[str, ...]
    config: dict[str, Any]


async def supervise(child: ChildProcess) -> None:
    """Keep a configured child running until cancelled."""

    async def configure(process: trio.Process) -> None:
        assert process.stdin is not None, "opened with a pipe"
        try:
            await process.stdin.send_all(json.dumps(child.config).encode() + b"\n")
        except trio.BrokenResourceError:
            logger.warning("%s ended before it read its configuration", child.name)
        await process.wait()

    await keep_running(child.name, child.argv, configure)


async def keep_running(
    name: str, argv: Sequence[str], use: Callable[[trio.Process], Awaitable[None]], *, is_answering: bool = False
) -> None:
    """Start a process and pass it to `use`, which returns when the process has ended; repeat until cancelled.

    The pause before a restart doubles up to 10 s while processes live for less than 20 s. With `is_answering` the
    process's standard output is a pipe for `use` to read.
    """
    pause_s = BACKOFF_S
    while True:
        started_s = trio.current_time()
        stdout = subprocess.PIPE if is_answering else None
        process = await trio.lowlevel.open_process(list(argv), stdin=subprocess.PIPE, stdout=stdout)
        try:
            await use(process)
        finally:
            with trio.CancelScope(shield=True):
                await _stop(process)
        if trio.current_time() - started_s > HEALTHY_S:
            pause_s = BACKOFF_S
        logger.warning("%s ended with status %s; starting it again in %.1f s", name, process.returncode, pause_s)
        await trio.sleep(pause_s)
        pause_s = min(BACKOFF_S_MAX, 2 * pause_s)


async def _stop(process: trio.Process) -> None:
    """Ask the process to end, kill it when it does not, then close its pipes."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_TIMEOUT_S):
            await process.wait()
    if process.poll() is None:
        process.kill()
        await process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await pipe.aclose()
