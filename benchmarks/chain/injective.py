"""The peer: `injectived`, a Cosmos-SDK/CometBFT node, as a validator on loopback. Used as a tool; no part of it is
kept.

PyPI's `injective-core` is the wheel; its binary is unpacked once into the cache. The setup follows its documentation
for a development network, and adds: block gas unlimited, a mempool of 30,000, recheck on (else pending sequence numbers
are lost), a block a second, request batches as large as ours, every listener on loopback or off.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chain.cosmos_tx import CHAIN_ID, DENOM, Account, make_account, sign_send
from benchmarks.chain.load import LoadFailed, make_batches, send_load
from benchmarks.chain.processes import find_free_port, read_cpu_s, read_memory, running, wait_for_port
from benchmarks.chain.results import Measured, Run, Setting

VERSION = "1.20.1"
STAKE = "stake"
_FUNDS = str(10**24)
INCLUSION_TIMEOUT_S = 300.0
ANSWER_TIMEOUT_S = 30.0
POLL_S = 0.05


def fetch(cache: Path) -> Path:
    """The path of the binary, unpacked in the cache. Raises CalledProcessError when pip cannot fetch the wheel."""
    folder = cache / f"injective-{VERSION}"
    binary = folder / "injectived"
    if binary.exists():
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    wheel = f"injective-core=={VERSION}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wheel]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extract("injective_core/bin/injectived.tar.zst", folder)
    subprocess.run(["tar", "--zstd", "-xf", folder / "injective_core/bin/injectived.tar.zst", "-C", folder], check=True)
    (found,) = folder.glob("injectived-*")
    found.chmod(0o755)
    path.unlink()
    return found.rename(binary)


def measure(binary: Path, setting: Setting, transfers: int, runs: int, log_dir: Path) -> Measured:
    """Run `runs` times, each on a chain of its own. Raises LoadFailed, NotStarted."""
    found = [asyncio.run(_run(binary, setting, transfers, log_dir / f"injectived-{at}.log")) for at in range(runs)]
    return Measured("injectived", VERSION, setting, found)


async def _run(binary: Path, setting: Setting, transfers: int, log: Path) -> Run:
    port = find_free_port()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        accounts = _prepare_chain(binary, home, setting.accounts)
        feeds = _make_feeds(port, accounts, transfers, setting)
        argv = [str(binary), "start", "--home", str(home), "--rpc.laddr", f"tcp://127.0.0.1:{port}", "--log-level"]
        argv += ["error", "--p2p.laddr", f"tcp://127.0.0.1:{find_free_port()}", "--rpc.pprof_laddr", ""]
        with running(argv, log, _environment(binary, home)) as node:
            wait_for_port(port, node, log)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                await _wait_for_height(client, 2)
                first = await _get_height(client)
                before = read_cpu_s(node.pid)
                result = await send_load(port, feeds, _count_accepted)
                if result.accepted != transfers:
                    raise LoadFailed(f"{result.accepted} of {transfers} were accepted")
                ended_s, blocks = await _wait_for_inclusion(client, first, transfers)
                cpu_s = {"injectived": round(sum(read_cpu_s(node.pid).values()) - sum(before.values()), 2)}
                memory_mib = read_memory(node.pid)
    submit_s, total_s = result.ended_s - result.started_s, ended_s - result.started_s
    return Run(transfers, submit_s, total_s, blocks, cpu_s, memory_mib)


def _environment(binary: Path, home: Path) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(binary.parent), "HOME": str(home.parent)}


def _prepare_chain(binary: Path, home: Path, count: int) -> list[Account]:
    """Make a chain: `init`, an own validator, funded accounts in the genesis, and the settings named above."""

    def call(*argv: str) -> str:
        env = _environment(binary, home)
        done = subprocess.run([str(binary), *argv, "--home", str(home)], env=env, capture_output=True, text=True)
        if done.returncode:
            raise LoadFailed(f"injectived {argv[0]}: {done.stderr[-1_000:]}")
        return done.stdout

    call("init", "bench", "--chain-id", CHAIN_ID)
    call("keys", "add", "validator", "--keyring-backend", "test")
    validator = call("keys", "show", "validator", "-a", "--keyring-backend", "test").strip()
    path = home / "config" / "genesis.json"
    genesis = json.loads(path.read_text())
    accounts = [make_account(f"payer-{number}", number + 1) for number in range(count)]
    _fund(genesis, [validator, *(one.address for one in accounts)])
    path.write_text(json.dumps(genesis))
    gentx = ["genesis", "gentx", "validator", f"{10**22}{STAKE}", "--chain-id", CHAIN_ID, "--keyring-backend", "test"]
    call(*gentx)
    call("genesis", "collect-gentxs")
    _configure(home / "config")
    return accounts


def _fund(genesis: dict[str, Any], addresses: list[str]) -> None:
    """Give the addresses numbered and funded accounts, and remove a block's gas limit."""
    state = genesis["app_state"]
    state["auth"]["accounts"] = [
        {
            "@type": "/injective.types.v1beta1.EthAccount",
            "base_account": {"address": one, "pub_key": None, "account_number": str(number), "sequence": "0"},
            "code_hash": base64.b64encode(bytes.fromhex(_EMPTY_CODE)).decode(),
        }
        for number, one in enumerate(addresses)
    ]
    coins = [{"denom": DENOM, "amount": _FUNDS}, {"denom": STAKE, "amount": _FUNDS}]
    state["bank"]["balances"] = [{"address": one, "coins": coins} for one in addresses]
    state["bank"]["supply"] = []
    genesis["consensus"]["params"]["block"]["max_gas"] = "-1"


_EMPTY_CODE = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
"""Keccak-256 of the empty string: an account without code."""


def _configure(folder: Path) -> None:
    _edit(
        folder / "config.toml",
        {"size": "30000", "cache_size": "60000", "timeout_commit": '"1s"', "max_request_batch_size": "100"},
    )
    app = folder / "app.toml"
    text = app.read_text()
    for section in ("api", "grpc", "grpc-web", "json-rpc"):
        text = re.sub(rf"(\[{section}\].*?\nenable = )true", r"\1false", text, count=1, flags=re.DOTALL)
    app.write_text(text)


def _edit(path: Path, values: dict[str, str]) -> None:
    text = path.read_text()
    for name, value in values.items():
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, count=1, flags=re.MULTILINE)
        if not count:
            raise LoadFailed(f"{path.name} of this injectived has no {name}")
    path.write_text(text)


def _make_feeds(port: int, accounts: list[Account], transfers: int, setting: Setting) -> list[list[bytes]]:
    """Feeds as ours: an account's sends stay on one connection, in order."""
    feeds: list[list[bytes]] = []
    for connection in range(setting.connections):
        calls: list[dict[str, Any]] = []
        for sequence in range(transfers // len(accounts)):
            for place in range(connection, len(accounts), setting.connections):
                dest = accounts[(place + 1 + sequence) % len(accounts)].address
                tx = base64.b64encode(sign_send(accounts[place], dest, 1_000_000, sequence)).decode()
                call = {"jsonrpc": "2.0", "id": len(calls), "method": "broadcast_tx_sync", "params": {"tx": tx}}
                calls.append(call)
        feeds.append(make_batches(port, calls, setting.batch))
    return feeds


def _count_accepted(answer: Any) -> int:
    answers = answer if isinstance(answer, list) else [answer]
    for one in answers:
        if "error" in one or one["result"]["code"]:
            raise LoadFailed(str(one)[:500])
    return len(answers)


async def ask_peer(client: httpx.AsyncClient, path: str, until_s: float, **params: int) -> dict[str, Any]:
    """The result of a question, asked again while the peer has none yet. Raises LoadFailed with its last answer.

    It names a height before it has that height's results, and on a fast machine one asks in between.
    """
    while True:
        answer: Any
        try:
            answer = (await client.get(path, params=params)).json()
        except (httpx.HTTPError, ValueError) as error:
            answer = f"{type(error).__name__}: {error}"
        if isinstance(answer, dict) and isinstance(answer.get("result"), dict):
            return dict(answer["result"])
        if time.monotonic() > until_s:
            raise LoadFailed(f"injectived does not answer {path}: {str(answer)[:500]}")
        await asyncio.sleep(POLL_S)


async def _get_height(client: httpx.AsyncClient) -> int:
    found = await ask_peer(client, "/status", time.monotonic() + ANSWER_TIMEOUT_S)
    return int(found["sync_info"]["latest_block_height"])


async def _wait_for_height(client: httpx.AsyncClient, height: int) -> None:
    while await _get_height(client) < height:
        await asyncio.sleep(POLL_S)


async def _wait_for_inclusion(client: httpx.AsyncClient, first: int, transfers: int) -> tuple[float, list[int]]:
    """The time of the last send's inclusion with a known result, and the sends of each block. Raises LoadFailed."""
    deadline_s = time.monotonic() + INCLUSION_TIMEOUT_S
    counts: list[int] = []
    height = first + 1
    while sum(counts) < transfers:
        if time.monotonic() > deadline_s:
            raise LoadFailed(f"{sum(counts)} of {transfers} sends were included within five minutes")
        if await _get_height(client) < height:
            await asyncio.sleep(POLL_S)
            continue
        found = await ask_peer(client, "/block_results", time.monotonic() + ANSWER_TIMEOUT_S, height=height)
        results = found["txs_results"] or []
        if any(one["code"] for one in results):
            raise LoadFailed(f"sends failed in block {height}")
        counts.append(len(results))
        height += 1
    return time.monotonic(), [one for one in counts if one]
