"""The demo's network of real processes with the real model, blocks every 250 ms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from inference.model.fetch import SMOLLM2, cache_dir, fetch_sample
from inference.model.importing import import_model
from node.cli.demo import CLIENT, make_demo_plan
from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.localnet.localnet import Localnet, open_localnet
from node.localnet.plan import LocalnetPlan

BLOCK_INTERVAL_MS = 250


@dataclass
class Running:
    """A started network."""

    network: Localnet
    chain: RpcChain
    plan: LocalnetPlan
    home: Path

    @property
    def model(self) -> bytes:
        return bytes.fromhex(self.plan.model)

    @property
    def rpc_url(self) -> str:
        return self.plan.validators[0].rpc_url

    async def infer(self, prompt: str, *options: str, stdin: str = "") -> tuple[int, dict[str, Any] | None, str]:
        """`myelin infer --json` as a process: status, what it printed, its errors."""
        argv = [sys.executable, "-m", "node.cli.main", "infer", prompt, "--json", "--wait", "--rpc", self.rpc_url]
        argv += ["--models", self.plan.models, *options]
        if "--account" not in options:
            argv += ["--account", f"dev:{CLIENT}"]
        if "--model" not in options:
            argv += ["--model", self.plan.model]
        environment = {**os.environ, "XDG_DATA_HOME": str(self.home)}
        done = await trio.run_process(
            argv, check=False, capture_stdout=True, capture_stderr=True, stdin=stdin.encode(), env=environment
        )
        found = json.loads(done.stdout) if done.stdout.strip() else None
        return done.returncode or 0, found, done.stderr.decode()

    def get_pid(self, name: str) -> int:
        """The process of a name."""
        assert self.network.state is not None
        return self.network.state.processes[name].identity.pid


@asynccontextmanager
async def open_running(
    base: Path,
    programs: dict[str, tuple[str, ...]] | None = None,
    open_beside: Callable[[LocalnetPlan], AbstractAsyncContextManager[None]] = lambda _plan: nullcontext(),
) -> AsyncIterator[Running]:
    """Start a validator and three workers, what `open_beside` opens before; stop them at the end."""
    path = fetch_sample(SMOLLM2, cache_dir(), lambda _done, _total: None)
    models = cache_dir() / "models"
    manifest = import_model(path, models, lambda _done, _total: None, name=SMOLLM2.model)
    plan = make_demo_plan(base, models, manifest, BLOCK_INTERVAL_MS, programs or {})
    async with open_beside(plan):
        with open_localnet(base) as network:
            await network.up(lambda: plan, lambda _text: None)
            try:
                async with open_rpc(plan.validators[0].rpc_url) as rpc:
                    yield Running(network, await RpcChain.connect(rpc), plan, base / "home")
            finally:
                with trio.CancelScope(shield=True):
                    await network.down()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """An honest network."""
    async with open_running(tmp_path) as found:
        yield found


def run_demo(*options: str) -> subprocess.CompletedProcess[str]:
    """`myelin demo` as a user runs it."""
    argv = [sys.executable, "-m", "node.cli.main", "demo", *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
