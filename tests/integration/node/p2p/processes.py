"""Starts `peer.py` processes and makes sure that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

REPOSITORY = Path(__file__).resolve().parents[4]
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class PeerProcess:
    """A running peer: its address and the means to hurt it."""

    address: str
    process: trio.Process

    @property
    def peer_id(self) -> str:
        return self.address.rsplit("/", 1)[1]

    @property
    def port(self) -> int:
        return int(self.address.split("/")[4])

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


@asynccontextmanager
async def peer_process(seed_byte: int, *options: str) -> AsyncIterator[PeerProcess]:
    command = [sys.executable, "-m", "tests.integration.node.p2p.peer", str(seed_byte), *options]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY)
    try:
        assert process.stdout is not None
        line = b""
        with trio.fail_after(START_TIMEOUT_S):
            while not line.endswith(b"\n"):
                data = await process.stdout.receive_some()
                assert data, "the peer ended before it had an address"
                line += data
        yield PeerProcess(line.decode().strip(), process)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope() as scope:
            scope.shield = True
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()
