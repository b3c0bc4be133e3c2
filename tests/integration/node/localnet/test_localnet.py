"""Four validators as real processes: they go on without one, it comes back, and nothing is lost or forked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from typer.testing import CliRunner

from genesis.spec import compute_genesis_hash
from node.cli.main import app
from node.localnet.load import LoadPlan, run_load
from node.localnet.localnet import open_localnet
from node.localnet.plan import build_spec
from node.localnet.state import FILE_NAME, Phase, load_state
from node.localnet.status import load_localnet, read_status
from node.machine.processes import RunState, get_run_state
from proto_specs.errors import ExitStatus

REPOSITORY = Path(__file__).resolve().parents[4]
CATCH_UP_S = 20.0
POLL_S = 0.05


def run_localnet(base: Path, *arguments: str, status: int = 0) -> str:
    """`myelin localnet`, its output."""
    argv = [sys.executable, "-m", "node.cli.main", "localnet", *arguments, "--base", str(base)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, timeout=100, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def call_localnet(base: Path, *arguments: str, status: int = 0) -> str:
    """The same inside this process, without a Python's start."""
    done = CliRunner().invoke(app, ["localnet", *arguments, "--base", str(base)])
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.stderr


async def ask(url: str, method: str, *params: Any) -> Any:
    async with httpx.AsyncClient(timeout=10) as http:
        answer = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
    return answer.json()["result"]


async def wait_for_height(url: str, height: int) -> None:
    with trio.fail_after(CATCH_UP_S):
        while (await ask(url, "system_health"))["height"] < height:
            await trio.sleep(POLL_S)


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_four_validators_go_on_without_one_which_catches_up(tmp_path: Path) -> None:
    up = ("up", "--validators", "4", "--workers", "0", "--partitions", "proxy", "--block-interval-ms", "300")
    try:
        await trio.to_thread.run_sync(run_localnet, tmp_path, *up)
        plan = load_localnet(tmp_path).plan
        urls = {one.name: one.rpc_url for one in plan.validators}
        assert "runs already" in await trio.to_thread.run_sync(run_localnet, tmp_path, *up)

        load = LoadPlan(tps=50, seconds=2, payers=plan.payers, genesis=compute_genesis_hash(build_spec(plan)))
        tally = await run_load(list(urls.values()), load)
        assert (len(tally.finalized), tally.failures) == (100, {})

        with open_localnet(tmp_path) as net:
            await net.kill("dave")
            before = await ask(urls["alice"], "system_health")
            await wait_for_height(urls["alice"], before["height"] + 3)
            assert [one.state for one in (await read_status(tmp_path)).processes][-1] == "gone"
            reached = await ask(urls["alice"], "system_health")
            await net.start("dave")
        await wait_for_height(urls["dave"], reached["height"] + 2)

        for height in (1, before["height"], reached["height"] + 2):
            hashes = {await ask(url, "chain_getBlockHash", height) for url in urls.values()}
            assert len(hashes) == 1
        for extrinsic, where in tally.finalized.items():
            found = [await ask(url, "author_extrinsicStatus", extrinsic) for url in (urls["alice"], urls["dave"])]
            assert [one["height"] for one in found] == [where.height] * 2
            assert where.block == await ask(urls["bob"], "chain_getBlockHash", where.height)
    finally:
        await trio.to_thread.run_sync(run_localnet, tmp_path, "down")
    assert all(one.state == "gone" for one in (await read_status(tmp_path)).processes)
    for log in (tmp_path / "logs").iterdir():
        assert "Traceback" not in log.read_text(), log


@pytest.mark.slow
def test_one_validator_up_faults_and_down(tmp_path: Path) -> None:
    up = ("up", "--validators", "1", "--workers", "0", "--block-interval-ms", "200")
    assert "there is no localnet" in call_localnet(tmp_path, "kill", "alice", status=1)
    try:
        call_localnet(tmp_path, *up)
        report = json.loads(call_localnet(tmp_path, "load", "--tps", "20", "--seconds", "1", "--json"))
        assert (report["finalized"], report["failures"]) == (20, {})
        assert "has 1 validators and 0 workers" in call_localnet(tmp_path, "up", "--workers", "0", status=1)
        assert "cannot be kept apart" in call_localnet(tmp_path, "heal", status=1)
        call_localnet(tmp_path, "pause", "alice")
        assert json.loads(call_localnet(tmp_path, "status", "--json"))["processes"][0]["state"] == "paused"
        call_localnet(tmp_path, "resume", "alice")
        call_localnet(tmp_path, "kill", "alice")
        assert "does not run" in call_localnet(tmp_path, "kill", "alice", status=1)
        assert "nothing here is called bob" in call_localnet(tmp_path, "start", "bob", status=1)
        call_localnet(tmp_path, *up)
        (alice,) = json.loads(call_localnet(tmp_path, "status", "--json"))["processes"]
        assert alice["state"] == "running"
        assert alice["height"] > 5, "the same chain went on"
    finally:
        call_localnet(tmp_path, "down", "--remove")
    assert not (tmp_path / FILE_NAME).exists()
    assert not (tmp_path / "alice").exists()


@pytest.mark.slow
def test_an_interrupted_start_leaves_nothing_running_and_the_next_one_begins_anew(tmp_path: Path) -> None:
    up = ("up", "--validators", "2", "--workers", "0", "--partitions", "proxy", "--block-interval-ms", "200")
    argv = [sys.executable, "-m", "node.cli.main", "localnet", *up, "--base", str(tmp_path)]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as starting:
        deadline_s = time.monotonic() + 60
        while (state := load_state(tmp_path)) is None or len(state.processes) < 2:
            assert time.monotonic() < deadline_s
        starting.send_signal(signal.SIGINT)
        assert starting.wait(60) == ExitStatus.INTERRUPTED
    assert all(get_run_state(one.identity) is RunState.GONE for one in state.processes.values())
    left = load_state(tmp_path)
    assert left is not None
    assert (left.phase, left.processes) == (Phase.STARTING, {})
    try:
        call_localnet(tmp_path, *up)
        assert load_localnet(tmp_path).plan.genesis_time_ms > left.plan.genesis_time_ms
    finally:
        call_localnet(tmp_path, "down", "--remove")
