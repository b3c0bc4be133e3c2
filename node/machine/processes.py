"""Processes that outlive the command that starts them: spawned, recognised by start time, signalled by group.

A process id alone is never trusted: the system may have given it to another process meanwhile.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, never mistaken for another: its id and its start (boot and clock tick) as opaque text."""

    pid: int
    started: str


class RunState(enum.Enum):
    """Whether a process runs, is paused, or is gone."""

    RUNNING = "running"
    PAUSED = "paused"
    GONE = "gone"


def spawn(argv: Sequence[str], log: Path, environment: Mapping[str, str]) -> Identity:
    """Start a process in a session of its own, with its output appended to `log`. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(argv[0], list(argv), dict(environment), file_actions=actions, setsid=True)
    found = _read(pid)
    assert found is not None, "a child that was not waited for is there, if only as a zombie"
    return Identity(pid, found[0])


def get_run_state(identity: Identity) -> RunState:
    """The state of exactly this process; a zombie is gone, and so is a process whose id now belongs to another."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(identity.pid, os.WNOHANG)  # a child of this process is reaped here
    found = _read(identity.pid)
    if found is None or found[0] != identity.started or found[1] in "ZX":
        return RunState.GONE
    return RunState.PAUSED if found[1] in "Tt" else RunState.RUNNING


def send_to_group(identity: Identity, number: signal.Signals) -> bool:
    """Signal the process and the processes it started; False when it is gone."""
    if get_run_state(identity) is RunState.GONE:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(identity.pid, number)
    return True


async def kill(identity: Identity) -> bool:
    """SIGKILL the process and the processes it started; returns once it is gone, with whether it was there."""
    was_there = send_to_group(identity, signal.SIGKILL)
    await wait_until_gone(identity)
    return was_there


async def stop(identity: Identity) -> None:
    """Ask the process to end, even when it is paused; after 10 s kill it and the processes it started."""
    if not send_to_group(identity, signal.SIGCONT):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(identity.pid, signal.SIGTERM)
    with trio.move_on_after(STOP_TIMEOUT_S) as waiting:
        await wait_until_gone(identity)
    if waiting.cancelled_caught:
        await kill(identity)


async def wait_until_gone(identity: Identity) -> None:
    """Return when the process no longer runs."""
    while True:  # the process need not be a child, so the kernel does not report its end
        if get_run_state(identity) is RunState.GONE:
            return
        await trio.sleep(POLL_S)


def _read(pid: int) -> tuple[str, str] | None:
    """(start, letter of the state) of the process that has this id now; None without one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return f"{_BOOT_ID.read_text('utf-8').strip()}:{fields[19]}", fields[0]
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _ask_ps(pid)


def _ask_ps(pid: int) -> tuple[str, str] | None:
    """As `_read`, on a system without /proc."""
    done = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = done.stdout.strip().partition(" ")
    return (started.strip(), state[:1]) if started else None
