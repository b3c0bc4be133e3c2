"""A network of real processes with the real model, blocks every 200 ms, shared by the tests of a module."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from inference.model.fetch import MODEL_NAME, cache_dir, fetch_smollm2
from inference.model.importing import import_gguf
from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.localnet.demo_network import CLIENT, DemoNetwork, NetworkPlan, find_free_port, split_layers
from proto_specs.types.manifest import compute_model_id
from tests.actors.cheating import DemoCheat

WORKERS = ("bob", "charlie", "dave")


@dataclass
class Running:
    """A started network."""

    network: DemoNetwork
    chain: RpcChain
    plan: NetworkPlan

    async def infer(self, prompt: str, *options: str, stdin: str = "") -> tuple[int, dict[str, Any] | None, str]:
        """`myelin infer --json` as a process: status, what it printed, its errors."""
        argv = [sys.executable, "-m", "node.cli.main", "infer", prompt, "--json", "--rpc", self.plan.rpc_url]
        argv += ["--models", str(self.plan.models), *options]
        if "--account" not in options:
            argv += ["--account", f"dev:{CLIENT}"]
        if "--model" not in options:
            argv += ["--model", self.plan.model.hex()]
        done = await trio.run_process(argv, check=False, capture_stdout=True, capture_stderr=True, stdin=stdin.encode())
        found = json.loads(done.stdout) if done.stdout.strip() else None
        return done.returncode or 0, found, done.stderr.decode()

    def get_child(self, name: str) -> Any:
        """A running process by name."""
        (found,) = [one for one in self.network.children.started if one.name == name]
        return found


@asynccontextmanager
async def open_running(base: Path, cheat: DemoCheat | None = None) -> AsyncIterator[Running]:
    """Start a validator and three workers; stop them at the end."""
    path = fetch_smollm2(cache_dir(), lambda _done, _total: None)
    models = cache_dir() / "models"
    manifest = import_gguf(path, models, lambda _done, _total: None, name=MODEL_NAME)
    plan = NetworkPlan(
        base=base,
        models=models,
        model=compute_model_id(manifest),
        workers=split_layers(manifest.architecture.layers, WORKERS),
        rpc_port=find_free_port(),
        block_interval_ms=400,
        cheat=cheat,
    )
    network = DemoNetwork(plan)
    try:
        async with open_rpc(plan.rpc_url) as rpc:
            await network.init()
            await network.start_validator(rpc)
            await network.register_model()
            for number in range(len(plan.workers)):
                await network.start_worker(number)
            chain = await RpcChain.connect(rpc)
            await network.wait_serving(chain)
            yield Running(network, chain, plan)
    finally:
        with trio.CancelScope() as scope:
            scope.shield = True
            await network.children.stop()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """An honest network."""
    async with open_running(tmp_path) as found:
        yield found


def run_demo(*options: str) -> subprocess.CompletedProcess[str]:
    """`myelin demo` as a user runs it."""
    argv = [sys.executable, "-m", "node.cli.main", "demo", *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
