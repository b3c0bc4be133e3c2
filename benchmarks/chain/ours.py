"""Our chain with a single validator, run as users run it: `myelin run`, transfers over HTTP, counted on the chain."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chain.audit import Ask, Sent, audit
from benchmarks.chain.load import LoadFailed, count_accepted, make_feeds, send_load
from benchmarks.chain.processes import find_free_port, read_cpu_s, read_memory, running, wait_for_port
from benchmarks.chain.results import Measured, Run, Setting
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec, compute_genesis_hash, save_spec
from node.local_api.methods.chain import NODE_VERSION
from proto_specs.codec import encode
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import TransactionBody, sign_transaction

AMOUNT = 1_000_000
MYELIN = ("-m", "node.cli.main")
INCLUSION_TIMEOUT_S = 120.0
POLL_S = 0.02
STAGES_TIMEOUT_S = 10.0

Check = Callable[[Ask, int], Awaitable[tuple[list[int], dict[str, Any]]]]
"""(RPC, height before the load) -> (transfers of each non-empty block, further findings). Raises LoadFailed."""


def measure(setting: Setting, transfers: int, runs: int, log_dir: Path) -> Measured:
    """Run `runs` times, each on a chain of its own. Raises LoadFailed, NotStarted."""
    found = [asyncio.run(_run(setting, transfers, log_dir / f"myelin-{number}.log")) for number in range(runs)]
    return Measured("myelin", NODE_VERSION, setting, found)


def sign_transfers(names: Sequence[str], genesis: bytes, transfers: int) -> dict[str, list[str]]:
    """The transfers of `list_transfers`, each account's in order of nonces, as 0x hex."""
    identities = {one.account: one for one in map(get_dev_identity, names)}
    signed: dict[str, list[str]] = {name: [] for name in names}
    for one in list_transfers(names, transfers):
        source = identities[one.source]
        done = signed[source.name]
        done.append(sign_transfer(source, one.dest, len(done), genesis))
    return signed


def list_transfers(names: Sequence[str], transfers: int) -> list[Sent]:
    """The transfers of a load: every account pays the others in turn, each as often as the others."""
    known = [get_dev_identity(name).account for name in names]
    return [
        Sent(account, known[(place + 1 + nonce) % len(known)], AMOUNT)
        for nonce in range(transfers // len(known))
        for place, account in enumerate(known)
    ]


def measure_stages(setting: Setting, transfers: int, directory: Path) -> dict[str, Any]:
    """A run with the node's stages timed: CPU seconds of each, and of the rest. Raises as `measure` does."""
    out = directory / "stages.json"
    run = asyncio.run(_run(setting, transfers, directory / "myelin-stages.log", out))
    stages: dict[str, dict[str, Any]] = json.loads(out.read_text("utf-8"))
    rest = run.cpu_s["node"] - sum(one["cpu_s"] for one in stages.values())
    return {
        "transfers": transfers,
        "per_s": round(run.per_s, 1),
        "node": dict(sorted(stages.items(), key=lambda one: -one[1]["cpu_s"])),
        "node_everything_else_cpu_s": round(rest, 3),
        "processes_cpu_s": run.cpu_s,
    }


async def _run(setting: Setting, transfers: int, log: Path, stages: Path | None = None) -> Run:
    names = tuple(f"payer-{number}" for number in range(setting.accounts))
    spec = build_dev_spec(names=names)
    port = find_free_port()
    signed = sign_transfers(names, compute_genesis_hash(spec), transfers)
    feeds, sent = make_own_feeds(port, signed, setting), list_transfers(names, transfers)

    async def check(ask: Ask, height: int) -> tuple[list[int], dict[str, Any]]:
        audited = await audit(ask, spec, sent)
        return audited.blocks, asdict(audited)

    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory) / "node"
        init_node(base, spec)
        with run_node(base, port, log, stages) as node:
            return await load_node(node.pid, port, feeds, transfers, check, stages)


def init_node(base: Path, spec: ChainSpec) -> None:
    """Run `myelin init` for alice's validator on a chain. Raises LoadFailed."""
    chain = base.parent / f"{base.name}.json"
    save_spec(spec, chain)
    init = [sys.executable, *MYELIN, "init", "--base", str(base), "--chain", str(chain), "--validator", "dev:alice"]
    if subprocess.run(init, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise LoadFailed("myelin init failed")


@contextmanager
def run_node(base: Path, port: int, log: Path, stages: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Start `myelin run` and wait for its port. `stages` is a file for the stages' times. Raises NotStarted."""
    launcher = ["-m", "benchmarks.chain.stages", str(stages)] if stages else MYELIN
    run = [sys.executable, *launcher, "run", "--base", str(base), "--validator", "dev:alice", "--operator", "dev:alice"]
    options = ["--rpc-port", str(port), "--rpc-calls-per-s", "1000000", "--log-level", "WARNING"]
    with running([*run, "--no-verify", *options], log) as node:
        wait_for_port(port, node, log)
        yield node


async def load_node(
    pid: int, port: int, feeds: list[list[bytes]], transfers: int, check: Check, stages: Path | None = None
) -> Run:
    """Send the load to a running node, wait until all is included, check the chain. Raises LoadFailed."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        ask = functools.partial(_call, client)
        await _wait_for_height(ask, 2)
        before, height = read_cpu_s(pid), (await ask("system_health"))["height"]
        result = await send_load(port, feeds, count_accepted)
        if result.accepted != transfers:
            raise LoadFailed(f"{result.accepted} of {transfers} were accepted")
        ended_s = await _wait_until_empty(ask)
        after, memory_mib = read_cpu_s(pid), read_memory(pid)
        if stages:
            await _collect_stages(pid, stages)
        blocks, audited = await check(ask, height)
    cpu_s = {name: round(total - before.get(name, 0.0), 2) for name, total in after.items()}
    submit_s, total_s = result.ended_s - result.started_s, ended_s - result.started_s
    return Run(transfers, submit_s, total_s, blocks, cpu_s, memory_mib, audited)


def make_own_feeds(port: int, signed: Mapping[str, list[str]], setting: Setting) -> list[list[bytes]]:
    """The feeds of the signed transfers of each account."""
    return make_feeds(port, "author_submitExtrinsic", list(signed.values()), setting.connections, setting.batch)


def sign_transfer(source: DevIdentity, dest: bytes, nonce: int, genesis: bytes) -> str:
    """A signed transfer to the account `dest`, as 0x hex."""
    body = TransactionBody(source.account, nonce, Transfer(dest, AMOUNT), 0, 0, 0)
    return f"0x{encode(sign_transaction(body, genesis, genesis, source.account_key)).hex()}"


async def _call(client: httpx.AsyncClient, method: str, *params: Any) -> Any:
    response = await client.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return response.json()["result"]


async def _wait_for_height(ask: Ask, height: int) -> None:
    while (await ask("system_health"))["height"] < height:
        await asyncio.sleep(POLL_S)


async def _collect_stages(pid: int, out: Path) -> None:
    os.kill(pid, signal.SIGUSR1)
    deadline_s = time.monotonic() + STAGES_TIMEOUT_S
    while not out.exists():
        if time.monotonic() > deadline_s:
            raise LoadFailed("the node did not write its stages")
        await asyncio.sleep(POLL_S)


async def _wait_until_empty(ask: Ask) -> float:
    """The time at which the pool became empty (`time.monotonic`). Raises LoadFailed."""
    deadline_s = time.monotonic() + INCLUSION_TIMEOUT_S
    while (await ask("system_health"))["pending"]:
        if time.monotonic() > deadline_s:
            raise LoadFailed("transfers still wait after two minutes")
        await asyncio.sleep(POLL_S)
    return time.monotonic()
