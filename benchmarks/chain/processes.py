"""Processes of a benchmark: started with a log, their CPU time read from /proc, always stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_S = 10.0


class NotStarted(Exception):
    """A process of the benchmark ended, or did not answer in time; the text ends with its log's tail."""


@contextmanager
def running(argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the length of the block."""
    with log.open("wb") as sink:
        process = subprocess.Popen(argv, stdout=sink, stderr=subprocess.STDOUT, env=env, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 60.0) -> None:
    """Wait until a process listens on the port. Raises NotStarted."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise NotStarted(f"{process.args!r}: {log.read_text(errors='replace')[-2_000:]}")


def find_free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def read_cpu_s(parent: int) -> dict[str, float]:
    """CPU seconds of a process and its children so far, by program."""
    found: dict[str, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(entry.name) != parent and int(fields[1]) != parent:
            continue
        name = "node" if int(entry.name) == parent else _name(command)
        ticks = int(fields[11]) + int(fields[12])
        found[name] = found.get(name, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
    return found


def read_memory(pid: int) -> dict[str, float]:
    """Resident MiB of a process: the total, its anonymous memory, and pages of mapped files."""
    found = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    names = {"resident": "VmRSS", "anonymous": "RssAnon", "mapped": "RssFile"}
    return {name: round(int(found[field].split()[0]) / 1024, 1) for name, field in names.items()}


def _name(command: list[bytes]) -> str:
    """The module of `python -m MODULE`, else the program's path."""
    return (command[2] if len(command) > 2 and command[1] == b"-m" else command[0]).decode(errors="replace")
