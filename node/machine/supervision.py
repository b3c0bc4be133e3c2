"""Processes beside the node: started, fed their configuration on standard input, started again when they die.

A child's standard input stays open as long as the node lives; its end tells the child that the node is gone, however it
died. Secrets travel on it too, so none shows in a process list.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
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
    """A program to keep running, and the JSON object it reads from the first line of its standard input."""

    name: str
    argv: tuple[str, ...]
    config: dict[str, Any]


async def supervise(child: ChildProcess) -> None:
    """Keep the child running until cancelled; the pause before a restart doubles up to 10 s."""
    pause_s = BACKOFF_S
    while True:
        started_s = trio.current_time()
        code = await _run_once(child)
        if trio.current_time() - started_s > HEALTHY_S:
            pause_s = BACKOFF_S
        logger.warning("%s ended with status %s; starting it again in %.1f s", child.name, code, pause_s)
        await trio.sleep(pause_s)
        pause_s = min(BACKOFF_S_MAX, 2 * pause_s)


async def _run_once(child: ChildProcess) -> int | None:
    process = await trio.lowlevel.open_process(list(child.argv), stdin=subprocess.PIPE)
    assert process.stdin is not None, "asked for a pipe"
    try:
        try:
            await process.stdin.send_all(json.dumps(child.config).encode() + b"\n")
        except trio.BrokenResourceError:
            logger.warning("%s ended before it read its configuration", child.name)
        return await process.wait()
    finally:
        with trio.CancelScope(shield=True):
            await _stop(process)


async def _stop(process: trio.Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_TIMEOUT_S):
            await process.wait()
    if process.poll() is None:
        process.kill()
        await process.wait()
