"""A localnet of real processes with a gateway before it, for blocking clients: nothing here runs between two calls."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import trio

from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.localnet.localnet import Localnet, open_localnet
from node.localnet.plan import LocalnetPlan, Partitions, Wanted, WorkerPlan, make_plan
from proto_specs.types.manifest import Manifest, compute_model_id

START_S = 60.0
CLI = (sys.executable, "-m", "node.cli.main")


@dataclass(frozen=True)
class GatewayNet:
    """A network that serves `model`, the gateway's address and directory, and a key for it."""

    network: Localnet
    plan: LocalnetPlan
    model: str
    url: str
    base: Path
    gateway_pid: int
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def make_key(self, name: str) -> str:
        return make_key(self.base, name)

    def revoke(self, name: str) -> None:
        subprocess.run([*CLI, "gateway", "keys", "revoke", name, "--base", self.base], check=True, capture_output=True)

    def chat(self, text: str, **fields: Any) -> httpx.Response:
        """An answer to a plain question, as bytes over HTTP."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], **fields}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=self.headers, timeout=120)

    def look_up(self, request: str) -> dict[str, Any]:
        """What the gateway says of a request."""
        found = httpx.get(f"{self.url}/v1/requests/{request}", headers=self.headers, timeout=20)
        assert found.status_code == 200, found.text
        body: dict[str, Any] = found.json()
        return body

    def wait_for(self, request: str, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 60) -> dict[str, Any]:
        """Ask for a request until it is as wanted."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found.append(self.look_up(request))
            return holds(found[-1])

        poll_until(look, timeout_s)
        return found[-1]

    def read(self, query: Any, *arguments: Any) -> Any:
        """What the chain says."""

        async def ask() -> Any:
            async with open_rpc(self.plan.validators[0].rpc_url) as rpc:
                return await (await RpcChain.connect(rpc)).read(query, *arguments)

        return trio.run(ask)

    def list_workers(self) -> list[Any]:
        """The chain's entries of the workers."""

        async def ask() -> list[Any]:
            async with open_rpc(self.plan.validators[0].rpc_url) as rpc:
                return list(await (await RpcChain.connect(rpc)).list_workers(bytes.fromhex(self.plan.model)))

        return trio.run(ask)

    def get_pid(self, name: str) -> int:
        assert self.network.state is not None
        return self.network.state.processes[name].identity.pid

    def kill(self, name: str) -> None:
        trio.run(self.network.kill, name)

    def start(self, name: str) -> None:
        trio.run(self.network.start, name)


def poll_until(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    """Until it holds: other processes have no event to wait for."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, "it never held"
        threading.Event().wait(0.05)


def make_key(base: Path, name: str) -> str:
    argv = [*CLI, "gateway", "keys", "create", name, "--base", str(base), "--json"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return str(json.loads(done.stdout)["key"])


@contextmanager
def open_gateway_net(
    base: Path, models: Path, manifest: Manifest, ranges: tuple[tuple[int, int], ...]
) -> Iterator[GatewayNet]:
    """One validator, a worker for each range of layers, and a gateway that pays as `dev:client`; blocks each second."""
    wanted = Wanted(1, len(ranges), 1_000, Partitions.NONE, delay_ms=0, payers=0)
    model = compute_model_id(manifest).hex()
    plan = make_plan(base, wanted, time.time_ns() // 1_000_000, model, str(models), manifest.architecture.layers)
    workers = tuple(
        WorkerPlan(one.name, start, end, one.validator) for one, (start, end) in zip(plan.workers, ranges, strict=True)
    )
    plan = replace(plan, workers=workers)
    with open_localnet(base) as network:
        trio.run(network.up, lambda: plan, print)
        try:
            with open_gateway(base, plan) as (url, pid):
                directory = base / "gateway"
                key = make_key(directory, "tests")
                yield GatewayNet(network, plan, manifest.name, url, directory, pid, key)
        finally:
            trio.run(network.down)


@contextmanager
def open_gateway(base: Path, plan: LocalnetPlan) -> Iterator[tuple[str, int]]:
    argv = [*CLI, "gateway", "run", "--port", "0", "--rpc", plan.validators[0].rpc_url, "--account", "dev:client"]
    argv += ["--models", plan.models, "--base", str(base / "gateway"), "--keys", str(base / "keys")]
    argv += ["--statement-after", "2"]  # tests wait for what becomes of every request
    log = base / "gateway.log"
    with log.open("wb") as written, subprocess.Popen(argv, stdout=written, stderr=written) as process:
        try:
            url = ""

            def is_healthy() -> bool:
                nonlocal url
                assert process.poll() is None, log.read_text("utf-8", "replace")
                told = log.read_text("utf-8", "replace").partition("listens on ")[2]
                if "\n" not in told:
                    return False
                url = told.splitlines()[0].strip()
                with contextlib.suppress(httpx.HTTPError):
                    return httpx.get(f"{url}/health").status_code == 200
                return False

            poll_until(is_healthy, START_S)
            yield url, process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def read_memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def read_cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
