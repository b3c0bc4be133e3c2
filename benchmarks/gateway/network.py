"""A localnet and a gateway before it, as people start them, for the length of a block."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import trio

from node.localnet.localnet import open_localnet
from node.localnet.plan import LocalnetPlan, Partitions, Wanted, make_plan
from proto_specs.errors import MyelinError

START_S = 90.0
END_S = 15.0
POLL_S = 0.2


class GatewayDidNotStart(MyelinError):
    """The gateway ended or is not healthy in time. The message ends with what it said last."""


@dataclass(frozen=True, slots=True)
class Running:
    """A network that serves: the gateway's port and process, and the plan of the chain behind it."""

    port: int
    gateway_pid: int
    plan: LocalnetPlan


@asynccontextmanager
async def open_network(
    model: str, models: Path, layers: int, workers: int, options: Sequence[str] = ()
) -> AsyncIterator[Running]:
    """One validator, `workers` workers that share the layers, and an open gateway that pays as `dev:client`."""
    base = Path(tempfile.mkdtemp(prefix="myelin-bench-"))
    wanted = Wanted(1, workers, 1_000, Partitions.NONE, delay_ms=0, payers=0)
    plan = make_plan(base, wanted, time.time_ns() // 1_000_000, model, str(models), layers)
    try:
        with open_localnet(base) as net:
            try:
                await net.up(lambda: plan, lambda _text: None)
                async with _open_gateway(base, plan, options) as running:
                    yield running
            finally:
                with trio.CancelScope(shield=True):
                    await net.down()
    finally:
        shutil.rmtree(base, ignore_errors=True)


@asynccontextmanager
async def _open_gateway(base: Path, plan: LocalnetPlan, options: Sequence[str]) -> AsyncIterator[Running]:
    port = _find_port()
    argv = [sys.executable, "-m", "node.cli.main", "gateway", "run", "--open", "--port", str(port)]
    argv += ["--rpc", plan.validators[0].rpc_url, "--account", "dev:client", "--models", plan.models]
    argv += ["--base", str(base / "gateway"), *options]
    log = base / "gateway.log"
    with log.open("wb") as written:
        process = await trio.lowlevel.open_process(argv, stdout=written, stderr=written)
        try:
            await _wait_healthy(process, port, log)
            yield Running(port, process.pid, plan)
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                with trio.move_on_after(END_S):
                    await process.wait()
                process.kill()
                await process.wait()


async def _wait_healthy(process: trio.Process, port: int, log: Path) -> None:
    deadline_s = trio.current_time() + START_S
    async with httpx.AsyncClient() as client:
        while trio.current_time() < deadline_s and process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"http://127.0.0.1:{port}/health")).status_code == httpx.codes.OK:
                    return
            await trio.sleep(POLL_S)
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise GatewayDidNotStart(f"the gateway is not healthy within {START_S:.0f} s: {' | '.join(said)}")


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
