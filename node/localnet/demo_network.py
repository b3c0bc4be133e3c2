"""The demo's network: one validator and three workers, processes of their own, on loopback, in one base directory."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import trio

from consensus.runtime.inference import queries
from genesis.dev import get_dev_identity
from node.client.chain_view import ChainUnreachable
from node.client.rpc import RpcClient
from node.client.rpc_chain import RpcChain
from node.client.rpc_errors import RpcError
from node.localnet.commands import MYELIN, WorkerCommand, make_register, make_run
from node.machine.children import Child, Children, ProcessDied
from tests.actors.cheating import DemoCheat

START_TIMEOUT_S = 60.0
POLL_S = 0.1
VALIDATOR = "alice"
CLIENT = "client"


@dataclass(frozen=True)
class WorkerPlan:
    """A worker of the network: a development name and the layers it serves."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class NetworkPlan:
    """What to start. `cheat` makes worker number `cheater` dishonest."""

    base: Path
    models: Path
    model: bytes
    workers: tuple[WorkerPlan, ...]
    rpc_port: int
    block_interval_ms: int
    cheat: DemoCheat | None = None
    cheater: int = 1

    @property
    def rpc_url(self) -> str:
        """The validator's JSON-RPC address."""
        return f"http://127.0.0.1:{self.rpc_port}"


def split_layers(layers: int, names: tuple[str, ...]) -> tuple[WorkerPlan, ...]:
    """One contiguous range for each name, as even as it goes."""
    ends = [layers * (number + 1) // len(names) for number in range(len(names))]
    starts = [0, *ends[:-1]]
    return tuple(WorkerPlan(*one) for one in zip(names, starts, ends, strict=True))


def find_free_port() -> int:
    """A TCP port nobody listens at on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DemoNetwork:
    """Starts and stops the processes of a plan. Everything they need comes on their command lines."""

    def __init__(self, plan: NetworkPlan) -> None:
        self.plan = plan
        # One thread a process: several pools on few cores get in each other's way.
        self.children = Children(plan.base / "logs", {**os.environ, "OMP_NUM_THREADS": "1"})

    async def init(self) -> None:
        """Make the validator's directory."""
        plan = self.plan
        argv = (*MYELIN, "init", "--base", str(plan.base / VALIDATOR), "--validator", f"dev:{VALIDATOR}")
        await self.run("init", (*argv, "--interval-ms", str(plan.block_interval_ms)))

    async def start_validator(self, rpc: RpcClient) -> Child:
        """Start the validator and wait for its first block."""
        plan = self.plan
        argv = make_run(plan.base / VALIDATOR, VALIDATOR, plan.rpc_port, ("--models", str(plan.models)))
        child = await self.children.start("validator", argv)
        await self.wait_until(lambda: _is_producing(rpc), "the validator's first block")
        return child

    async def register_model(self) -> None:
        """Put the manifest on chain."""
        plan = self.plan
        await self.run("register-model", make_register(plan.model.hex(), plan.models, plan.rpc_url, VALIDATOR))

    async def start_worker(self, number: int) -> Child:
        """Start one worker; it registers itself."""
        plan, worker = self.plan, self.plan.workers[number]
        command = WorkerCommand(
            name=worker.name,
            base=plan.base / worker.name,
            model=plan.model.hex(),
            models=plan.models,
            start=worker.start,
            end=worker.end,
            rpc_url=plan.rpc_url,
        )
        if plan.cheat is not None and number == plan.cheater:
            argv = command.make_argv((sys.executable, "-m", "tests.actors.cheating_worker", plan.cheat.value))
        else:
            argv = command.make_argv()
        return await self.children.start(worker.name, argv)

    async def wait_serving(self, chain: RpcChain) -> None:
        """Wait until every worker is registered and the validator verifies the model."""

        async def is_ready() -> bool:
            workers = {one.worker for one in await chain.list_workers(self.plan.model) if one.is_active}
            wanted = {get_dev_identity(one.name).worker_key.public_key for one in self.plan.workers}
            return wanted <= workers and bool(await chain.read(queries.list_verifiers, self.plan.model))

        await self.wait_until(is_ready, "three registered workers and a verifier")

    async def run(self, name: str, argv: tuple[str, ...]) -> None:
        """Run a command line to its end. Raises ProcessDied when it fails."""
        child = await self.children.start(name, argv)
        code = await child.process.wait()
        self.children.started.remove(child)
        if code != 0:
            raise ProcessDied(f"`{' '.join(argv)}` failed with status {code}:\n{child.read_tail()}")

    async def wait_until(self, is_ready: object, what: str) -> None:
        """Poll until `is_ready()` holds. Raises ProcessDied when a process dies or a minute passes."""
        give_up_s = trio.current_time() + START_TIMEOUT_S
        while trio.current_time() < give_up_s:
            self.children.check_alive()
            if await is_ready():  # type: ignore[operator]
                return
            await trio.sleep(POLL_S)
        tails = "\n".join(child.read_tail() for child in self.children.started)
        raise ProcessDied(f"waited {START_TIMEOUT_S:.0f} s for {what}; the ends of the logs:\n{tails}")


async def _is_producing(rpc: RpcClient) -> bool:
    try:
        return bool((await rpc.call("chain_getHeader"))["height"] >= 1)
    except (ChainUnreachable, RpcError):
        return False
