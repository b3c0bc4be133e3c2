"""Two further nodes for comparison, without a goal: anvil (Rust, a development node) and py-evm (an EVM in Python).

anvil keeps its state in memory, and has no peers and no consensus: it shows the cost of a node that only checks
signatures and executes. py-evm executes and checks signatures with libsecp256k1, and has no RPC: only that is timed.
Both come from npm and PyPI into the cache, with a virtual environment of their own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chain.load import LoadFailed, count_accepted, make_feeds, send_load
from benchmarks.chain.processes import find_free_port, read_cpu_s, read_memory, running, wait_for_port
from benchmarks.chain.results import Measured, Run, Setting

ANVIL = "@foundry-rs/anvil-linux-amd64@1.7.1"
PY_EVM = "py-evm==0.12.1b1"
_SIDE_PACKAGES = (PY_EVM, "eth-account", "coincurve", "eth-hash[pycryptodome]")
_SIDE = Path(__file__).with_name("evm_side.py")
_CHAIN_ID = 31_337
_POLL_S = 0.05
_TIMEOUT_S = 300.0


def fetch(cache: Path) -> tuple[Path, Path]:
    """The paths of anvil's binary and of the Python in the peers' environment. Raises CalledProcessError."""
    folder = cache / "evm"
    anvil, python = folder / "package" / "bin" / "anvil", folder / "venv" / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    if not anvil.exists():
        packed = subprocess.run(
            ["npm", "pack", "--silent", ANVIL], check=True, cwd=folder, capture_output=True, text=True
        ).stdout.split()[-1]
        with tarfile.open(folder / packed) as archive:
            archive.extractall(folder, filter="data")
        anvil.chmod(0o755)
    ready = folder / ".ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_SIDE_PACKAGES]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
        ready.touch()
    return anvil, python


def measure_anvil(binary: Path, python: Path, setting: Setting, transfers: int, log_dir: Path) -> Measured:
    """A single run: a block a second, no gas limit for blocks. Raises LoadFailed, NotStarted."""
    run = asyncio.run(_run(binary, python, setting, transfers, log_dir / "anvil.log"))
    return Measured("anvil", ANVIL.rpartition("@")[2], setting, [run])


def measure_py_evm(python: Path, transfers: int = 2_000, repeats: int = 3) -> dict[str, Any]:
    """Transfers a second into blocks in memory, signatures included."""
    return {"name": "py-evm", "version": PY_EVM.rpartition("=")[2], **_ask(python, "execute", transfers, repeats)}


def _ask(python: Path, *asked: object) -> Any:
    argv = [str(python), str(_SIDE), *map(str, asked)]
    return json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


async def _run(binary: Path, python: Path, setting: Setting, transfers: int, log: Path) -> Run:
    port, each = find_free_port(), transfers // setting.accounts
    signed = _ask(python, "sign", setting.accounts, each, _CHAIN_ID)
    argv = [str(binary), "--port", str(port), "--block-time", "1", "--accounts", str(setting.accounts), "--silent"]
    with running([*argv, "--disable-block-gas-limit", "--no-request-size-limit", "--order", "fifo"], log) as node:
        wait_for_port(port, node, log)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            before = sum(read_cpu_s(node.pid).values())
            feeds = make_feeds(port, "eth_sendRawTransaction", signed, setting.connections, setting.batch)
            result = await send_load(port, feeds, count_accepted)
            if result.accepted != transfers:
                raise LoadFailed(f"anvil accepted {result.accepted} of {transfers}")
            ended_s, blocks = await _wait_for_inclusion(client, transfers)
            cpu_s = {"anvil": round(sum(read_cpu_s(node.pid).values()) - before, 2)}
            memory_mib = read_memory(node.pid)
    return Run(transfers, result.ended_s - result.started_s, ended_s - result.started_s, blocks, cpu_s, memory_mib)


async def _call(client: httpx.AsyncClient, method: str, *params: Any) -> Any:
    response = await client.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return response.json().get("result")


async def _wait_for_inclusion(client: httpx.AsyncClient, transfers: int) -> tuple[float, list[int]]:
    """The time of the last transfer's inclusion, and the transfers of every non-empty block. Raises LoadFailed."""
    counts: list[int] = []
    height, deadline_s = 1, time.monotonic() + _TIMEOUT_S
    while sum(counts) < transfers:
        if time.monotonic() > deadline_s:
            raise LoadFailed(f"anvil included {sum(counts)} of {transfers} in {_TIMEOUT_S:.0f} s")
        found = await _call(client, "eth_getBlockTransactionCountByNumber", hex(height))
        if found is None:
            await asyncio.sleep(_POLL_S)
            continue
        counts.append(int(found, 16))
        height += 1
    return time.monotonic(), [one for one in counts if one]
