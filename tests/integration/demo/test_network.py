"""A running network under honest use, bad input, garbage, and kill -9 of any of its processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import StageStatus
from genesis.dev import get_dev_identity
from inference.model.store import ShardStore
from node.cli.demo import CLIENT
from node.transfer.shards.fetch import select_units
from proto_specs.errors import ExitStatus
from tests.integration.demo.conftest import Running

pytestmark = [pytest.mark.slow, pytest.mark.leaves_open]


async def test_use_and_abuse_and_kills(running: Running, tmp_path: Path) -> None:
    """One network for all of it, as a network lives: what is refused leaves it as it was, who is killed comes back."""
    await use_and_abuse(running, tmp_path)
    await kill_what_is_beside_the_validator(running)
    await kill_the_validator_and_a_worker(running)
    await kill_a_worker_in_mid_generation(running)


async def use_and_abuse(running: Running, tmp_path: Path) -> None:
    await refuse_bad_input(running)
    await pay_honest_requests(running, 3)
    await send_garbage(running)
    await pay_honest_requests(running, 1)
    await fetch_weights(running, tmp_path)
    for worker in await running.chain.list_workers(running.model):
        record = await running.chain.read(queries.read_worker, worker.worker)
        assert record is not None
        assert (record.passes, record.fails, record.unavailable) == (4, 0, 0)


async def pay_honest_requests(running: Running, count: int) -> None:
    for number in range(count):
        status, found, errors = await running.infer(f"Name a number above {number}.", "--tokens", "12")
        assert status == 0, errors
        assert found is not None
        assert found["verified"]
        assert found["stages"] == ["paid"] * 3
        assert found["returned"] == 0
        assert not found["slashes"]


async def fetch_weights(running: Running, models: Path) -> None:
    """Somebody who wants to serve the middle layers gets them from those who do."""
    where = ("--rpc", running.rpc_url, "--models", str(models), "--json")
    argv = (sys.executable, "-m", "node.cli.main", "model", "fetch", f"0x{running.plan.model}", *where)
    done = await trio.run_process([*argv, "--layers", "10:20"], capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr
    store = ShardStore(models)
    units = select_units(store.load_manifest(running.model), (10, 20))
    for unit in units:
        store.verify_unit(running.model, unit)
    size = sum(unit.bytes_total for unit in units)
    assert json.loads(done.stdout) == {"model": f"0x{running.plan.model}", "units": len(units), "bytes": size}
    refused = await trio.run_process(
        [*argv, "--layers", "20:99"], capture_stdout=True, capture_stderr=True, check=False
    )
    assert refused.returncode == ExitStatus.REFUSED
    assert json.loads(refused.stdout or refused.stderr)["error"] == "FetchFailed"


async def refuse_bad_input(running: Running) -> None:
    """Each case ends with its reason and opens no session."""
    client = get_dev_identity(CLIENT).account
    cases = [
        (("   ",), {}, "the prompt is empty"),
        (("-",), {"stdin": "word " * 20_480}, "at most 65536 are allowed"),
        (("Hi.", "--model", "ab" * 32), {}, "no stored model"),
        (("Hi.", "--account", "dev:nobody"), {}, "the account has 0 nmyl free"),
        (("Hi.", "--max-price", "1"), {}, "no path through the model"),
        (("Hi.", "--tokens", "100000"), {}, "8192 positions"),
    ]
    for arguments, extra, reason in cases:
        status, found, errors = await running.infer(*arguments, **extra)
        assert status == ExitStatus.REFUSED, errors
        assert found is None
        assert reason in json.loads(errors)["message"], "one JSON object, as for all that --json prints"
    assert await running.chain.read(queries.list_sessions, client) == []


async def send_garbage(running: Running) -> None:
    """Bytes that are no protocol to the RPC port and to every worker's libp2p port."""
    workers = await running.chain.list_workers(running.model)
    ports = [int(one.addresses[0].split("/")[4]) for one in workers]
    for port in [running.plan.validators[0].rpc_port, *ports]:
        for garbage in (b"\0" * 4096, b"\xff" * 70_000, b"GET / HTTP/1.1\r\n\r\n", b"/multistream/1.0.0\n" * 50):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
                raw.sendall(garbage)
    async with httpx.AsyncClient() as http:
        for body in (b"", b"{", b"[]", b"[" * 100_000, b'{"jsonrpc":"2.0","id":1,"method":7}', b"\xff\xfe", b"null"):
            answer = await http.post(running.rpc_url, content=body)
            assert answer.json()["error"]["code"] < 0
        assert (await http.post(running.rpc_url, content=b" " * 2_000_000)).status_code == 413


async def kill_a_worker_in_mid_generation(running: Running) -> None:
    """It is named, and the client is refunded."""
    client = get_dev_identity(CLIENT).account
    known = {session for session, _ in await running.chain.read(queries.list_sessions, client)}
    outcome: list[tuple[int, str]] = []

    async def ask() -> None:
        status, _, errors = await running.infer("Write a very long story about the sea.", "--tokens", "600")
        outcome.append((status, errors))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.fail_after(30):
            while len(await running.chain.read(queries.list_sessions, client)) == len(known):
                await trio.sleep(0.05)
        await trio.sleep(1.5)  # into the generation: 600 tokens take twenty times as long
        await running.network.kill("charlie")
    ((status, errors),) = outcome
    assert status == ExitStatus.WORKER_LOST, errors
    assert "stage 1" in errors
    sessions = await running.chain.read(queries.list_sessions, client)
    ((session_id, session),) = [one for one in sessions if one[0] not in known]
    with trio.fail_after(30):
        while await running.chain.get_height() <= session.close_height:
            await trio.sleep(0.1)
    closed = await running.chain.read(queries.read_session, session_id)
    assert closed is not None
    assert closed.escrow == 0


async def kill_the_validator_and_a_worker(running: Running) -> None:
    """The chain goes on from its last block, and serves again."""
    await running.infer("Say hello.", "--tokens", "4")
    for name in ("alice", "bob"):
        height = await running.chain.get_height()
        await running.network.kill(name)
        await running.network.start(name)
        assert await running.chain.get_height() >= height
    with trio.fail_after(60):
        while True:
            status, found, errors = await running.infer("Say goodbye.", "--tokens", "4")
            if status == 0:
                break
            assert "Traceback" not in errors
    assert found is not None
    assert found["stages"] == [StageStatus.PAID.name.lower()] * 3


def find_child(parent: int, module: str) -> int:
    """The process a node keeps beside it to run `module`."""
    for entry in Path("/proc").iterdir():
        try:
            status, command = (entry / "status").read_text(), (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue  # not a process, or gone meanwhile
        if f"PPid:\t{parent}\n" in status and module.encode() in command:
            return int(entry.name)
    raise AssertionError(f"no {module} beside process {parent}")


async def kill_what_is_beside_the_validator(running: Running) -> None:
    """The verifier dies in the middle of a request that is drawn with certainty: it is judged and paid all the same."""
    validator = running.get_pid("alice")
    outcome: list[tuple[int, Any]] = []

    async def ask() -> None:
        status, found, errors = await running.infer("Name three rivers.", "--tokens", "24")
        outcome.append((status, found if found is not None else errors))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        client = get_dev_identity(CLIENT).account
        known = len(await running.chain.read(queries.list_sessions, client))
        with trio.fail_after(30):
            while len(await running.chain.read(queries.list_sessions, client)) == known:
                await trio.sleep(0.05)
        os.kill(find_child(validator, "node.verifier"), signal.SIGKILL)
    ((status, found),) = outcome
    assert status == 0, found
    assert found["stages"] == [StageStatus.PAID.name.lower()] * 3
    os.kill(find_child(validator, "node.web.rpc"), signal.SIGKILL)
    with trio.fail_after(60):
        while (await running.infer("Say goodbye.", "--tokens", "4"))[0] != 0:
            await trio.sleep(0.2)
