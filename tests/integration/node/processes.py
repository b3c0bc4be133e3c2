"""Real node processes for tests: `myelin init` and `run` in a directory, stopped or killed, never left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from genesis.builder import Genesis, build_genesis
from genesis.spec import load_spec
from node.client.chain_view import ChainUnreachable
from node.client.rpc import RpcClient, open_rpc

MYELIN = (sys.executable, "-m", "node.cli.main")
REPOSITORY = Path(__file__).resolve().parents[3]
VALIDATOR = ("--validator", "dev:alice")
START_TIMEOUT_S = 60.0
POLL_S = 0.05


def find_free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_myelin(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*MYELIN, *arguments], capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False
    )


@dataclass
class NodeDirectory:
    """An initialised directory of a development chain's only validator."""

    base: Path
    port: int = field(default_factory=find_free_port)
    options: tuple[str, ...] = ()
    is_validator: bool = True

    @classmethod
    def init(cls, base: Path, interval_ms: int = 200) -> NodeDirectory:
        """`myelin init`."""
        done = run_myelin("init", "--base", str(base), *VALIDATOR, "--interval-ms", str(interval_ms))
        assert done.returncode == 0, done.stderr
        return cls(base)

    @property
    def url(self) -> str:
        """Its RPC address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What its runs say."""
        return self.base / "run.log"

    def load_genesis(self) -> Genesis:
        """The chain's beginning."""
        return build_genesis(load_spec(self.base / "chain.json"))

    def argv(self) -> list[str]:
        """`myelin run` of this directory."""
        keys = (*VALIDATOR, "--operator", "dev:alice") if self.is_validator else ()
        return [
            *(*MYELIN, "run", "--base", str(self.base), *keys, "--no-verify", "--rpc-port", str(self.port)),
            *self.options,
        ]

    def read_address(self) -> str:
        """Where its last run listens for peers."""
        *_, line = (line for line in self.log.read_text().splitlines() if "listening at " in line)
        return line.rpartition("listening at ")[2].split(", ")[0]

    @asynccontextmanager
    async def run(self) -> AsyncIterator[RunningNode]:
        """`myelin run` inside the block; killed at its end, if it still runs."""
        with self.log.open("ab") as log:
            process = await trio.lowlevel.open_process(self.argv(), stdout=log, stderr=log, cwd=REPOSITORY)
        try:
            async with open_rpc(self.url) as rpc:
                yield RunningNode(self, process, rpc)
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@dataclass
class RunningNode:
    """One run of a node."""

    directory: NodeDirectory
    process: trio.Process
    rpc: RpcClient

    async def wait_for_height(self, height: int) -> int:
        """Until the RPC answers with at least that height."""
        with trio.fail_after(START_TIMEOUT_S):
            while True:
                assert self.process.poll() is None, self.directory.log.read_text()
                try:
                    found = int((await self.rpc.call("system_health"))["height"])
                except ChainUnreachable:
                    found = -1
                if found >= height:
                    return found
                await trio.sleep(POLL_S)

    async def wait_for_status(self, extrinsic: str) -> dict[str, Any]:
        """Until a transaction is finalized."""
        with trio.fail_after(START_TIMEOUT_S):
            while True:
                found = await self.rpc.call("author_extrinsicStatus", extrinsic)
                if found is not None and found["status"] == "finalized":
                    assert isinstance(found, dict)
                    return found
                await trio.sleep(POLL_S)

    def list_children(self, module: str = "") -> dict[int, str]:
        """Its child processes, those that run `module` where one is named: id -> command line."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        found = {int(pid): read_command(int(pid)) for one in threads for pid in (one / "children").read_text().split()}
        return {pid: command for pid, command in found.items() if module in command}

    def kill(self) -> None:
        """As the kernel would: no goodbye."""
        os.kill(self.process.pid, signal.SIGKILL)

    async def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its status."""
        self.process.send_signal(with_signal)
        with trio.fail_after(START_TIMEOUT_S):
            return await self.process.wait()


def read_command(pid: int) -> str:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second: it went between opening and reading
        return False


async def wait_until_gone(pids: list[int]) -> None:
    """Until none of these processes runs."""
    with trio.fail_after(START_TIMEOUT_S):
        while any(is_alive(pid) for pid in pids):
            await trio.sleep(POLL_S)


def read_signer(base: Path) -> dict[str, Any]:
    """The signer's history file."""
    found: dict[str, Any] = json.loads((base / "signer.json").read_text())
    return found
