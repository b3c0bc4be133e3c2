"""A one-validator chain of ours as it is run: `myelin run`, transfers over HTTP, counted on the chain."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chain.load import LoadFailed, make_batches, send_load
from benchmarks.chain.processes import find_free_port, read_cpu_s, read_memory, running, wait_for_port
from benchmarks.chain.results import Measured, Run, Setting
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec, compute_genesis_hash, save_spec
from node.api.chain_methods import NODE_VERSION
from proto_specs.codec import encode
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import TransactionBody, sign_transaction

AMOUNT = 1_000_000
MYELIN = (sys.executable, "-m", "node.cli.main")
INCLUSION_TIMEOUT_S = 120.0
POLL_S = 0.02


def measure(setting: Setting, transfers: int, runs: int, log_dir: Path) -> Measured:
    """So many runs, each on a chain of its own. Raises LoadFailed, NotStarted."""
    found = [asyncio.run(_run(setting, transfers, log_dir / f"myelin-{number}.log")) for number in range(runs)]
    return Measured("myelin", NODE_VERSION, setting, found)


def sign_transfers(names: Sequence[str], genesis: bytes, transfers: int) -> dict[str, list[str]]:
    """Transfers among the accounts, each account's in order of nonces, as 0x hex."""
    identities = [get_dev_identity(name) for name in names]
    return {
        one.name: [
            sign_transfer(one, identities[(place + 1 + nonce) % len(identities)].account, nonce, genesis)
            for nonce in range(transfers // len(names))
        ]
        for place, one in enumerate(identities)
    }


async def _run(setting: Setting, transfers: int, log: Path) -> Run:
    names = tuple(f"payer-{number}" for number in range(setting.accounts))
    spec = build_dev_spec(names=names)
    port = find_free_port()
    feeds = make_feeds(port, sign_transfers(names, compute_genesis_hash(spec), transfers), setting)
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory) / "node"
        init_node(base, spec)
        with run_node(base, port, log) as node:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                await _wait_for_height(client, 2)
                nonces = dict.fromkeys(names, transfers // setting.accounts)
                return await load_node(node.pid, client, port, feeds, transfers, nonces)


def init_node(base: Path, spec: ChainSpec) -> None:
    """`myelin init` of alice's validator on a chain. Raises LoadFailed."""
    chain = base.parent / f"{base.name}.json"
    save_spec(spec, chain)
    init = [*MYELIN, "init", "--base", str(base), "--chain", str(chain), "--validator", "dev:alice"]
    if subprocess.run(init, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise LoadFailed("myelin init failed")


@contextmanager
def run_node(base: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`myelin run`, answering. Raises NotStarted."""
    run = [*MYELIN, "run", "--base", str(base), "--validator", "dev:alice", "--operator", "dev:alice", "--no-verify"]
    options = ["--rpc-port", str(port), "--rpc-calls-per-s", "1000000", "--log-level", "WARNING"]
    with running([*run, *options], log) as node:
        wait_for_port(port, node, log)
        yield node


async def load_node(
    pid: int, client: httpx.AsyncClient, port: int, feeds: list[list[bytes]], transfers: int, nonces: dict[str, int]
) -> Run:
    """Send the load; nonces and the transfers in the blocks since are then what was sent, or it raises LoadFailed."""
    before, height = read_cpu_s(pid), (await _call(client, "system_health"))["height"]
    result = await send_load(port, feeds, _count_accepted)
    if result.accepted != transfers:
        raise LoadFailed(f"{result.accepted} of {transfers} were accepted")
    ended_s = await _wait_for_nonces(client, {get_dev_identity(name): nonce for name, nonce in nonces.items()})
    after = read_cpu_s(pid)
    blocks = await _count_blocks(client, height, transfers)
    cpu_s = {name: round(total - before.get(name, 0.0), 2) for name, total in after.items()}
    return Run(
        transfers, result.ended_s - result.started_s, ended_s - result.started_s, blocks, cpu_s, read_memory(pid)
    )


def make_feeds(port: int, signed: Mapping[str, list[str]], setting: Setting) -> list[list[bytes]]:
    """One feed a connection; an account's transfers stay on one connection, in order, its neighbours' between them."""
    feeds: list[list[bytes]] = []
    names = list(signed)
    for connection in range(setting.connections):
        mine = [signed[name] for name in names[connection :: setting.connections]]
        ordered = [account[nonce] for nonce in range(len(mine[0])) for account in mine]
        calls = [
            {"jsonrpc": "2.0", "id": number, "method": "author_submitExtrinsic", "params": [one]}
            for number, one in enumerate(ordered)
        ]
        feeds.append(make_batches(port, calls, setting.batch))
    return feeds


def sign_transfer(source: DevIdentity, dest: bytes, nonce: int, genesis: bytes) -> str:
    """A signed transfer to the account `dest`, as 0x hex."""
    body = TransactionBody(source.account, nonce, Transfer(dest, AMOUNT), 0, 0, 0)
    return f"0x{encode(sign_transaction(body, genesis, genesis, source.account_key)).hex()}"


def _count_accepted(answer: Any) -> int:
    answers = answer if isinstance(answer, list) else [answer]
    for one in answers:
        if "error" in one:
            raise LoadFailed(str(one["error"]))
    return len(answers)


async def _call(client: httpx.AsyncClient, method: str, *params: Any) -> Any:
    response = await client.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return response.json()["result"]


async def _wait_for_height(client: httpx.AsyncClient, height: int) -> None:
    while (await _call(client, "system_health"))["height"] < height:
        await asyncio.sleep(POLL_S)


async def _wait_for_nonces(client: httpx.AsyncClient, nonces: Mapping[DevIdentity, int]) -> float:
    """When the pool was empty; every account's nonce on the chain is then what was sent, or this raises LoadFailed."""
    deadline_s = time.monotonic() + INCLUSION_TIMEOUT_S
    while (await _call(client, "system_health"))["pending"]:
        if time.monotonic() > deadline_s:
            raise LoadFailed("transfers still wait after two minutes")
        await asyncio.sleep(POLL_S)
    ended_s = time.monotonic()
    for one, nonce in nonces.items():
        found = await _call(client, "system_account", f"0x{one.account.hex()}")
        if found["nonce"] != nonce:
            raise LoadFailed(f"an account's nonce is {found['nonce']}, {nonce} were sent")
    return ended_s


async def _count_blocks(client: httpx.AsyncClient, above: int, transfers: int) -> list[int]:
    """Transfers of each block above a height that has any; together they are what was sent."""
    head = (await _call(client, "system_health"))["height"]
    counts = []
    for height in range(above + 1, head + 1):
        receipts = (await _call(client, "chain_getReceipts", height))["receipts"]
        if any(one["error"] for one in receipts):
            raise LoadFailed(f"transfers failed in block {height}")
        counts.append(len(receipts))
    if sum(counts) != transfers:
        raise LoadFailed(f"{sum(counts)} transfers are on the chain, {transfers} were sent")
    return [one for one in counts if one]
