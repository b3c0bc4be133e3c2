"""A new node told to join by a snapshot: it verifies one and follows the chain; killed on the way, it joins again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from typer.testing import CliRunner

from genesis.dev import build_dev_spec
from genesis.spec import save_spec
from node.cli.main import app
from tests.integration.node.processes import NodeDirectory, RunningNode, run_myelin

pytestmark = pytest.mark.slow

EVERY = "5"


async def ask_hash(run: RunningNode, height: int) -> str:
    found = await run.rpc.call("chain_getBlockHash", height)
    assert isinstance(found, str)
    return found


async def test_a_new_node_joins_by_a_snapshot_and_follows(tmp_path: Path) -> None:
    old = NodeDirectory.init(tmp_path / "old", interval_ms=400)  # so that what is trusted stays so for 53 s
    old.options = ("--snapshot-interval", EVERY)
    async with old.run() as run:
        height = await run.wait_for_height(7)
        new = NodeDirectory(tmp_path / "new", is_validator=False)
        new.base.mkdir()
        shutil.copy(old.base / "chain.json", new.base)
        from_genesis = ("--peer", old.read_address(), "--sync", "snapshot", "--no-discover", "--trust-one-source")
        trusting = (*from_genesis, "--trust", f"{height}:{await ask_hash(run, height)}")

        new.options = from_genesis  # a development chain's genesis is long ago
        refused = await trio.to_thread.run_sync(lambda: run_myelin(*new.argv()[3:]))
        assert refused.returncode == 1
        assert "name a newer block, with its hash from who you trust (--trust HEIGHT:HASH)" in refused.stderr
        assert "Traceback" not in refused.stderr

        new.options = trusting
        async with new.run() as killed:  # before it has anything, or in the middle of it
            with trio.fail_after(60):
                while not new.log.exists() or "joining by a snapshot" not in new.log.read_text():
                    await trio.sleep(0.01)
            killed.kill()
            await killed.process.wait()

        async with new.run() as joined:
            height = await joined.wait_for_height(await run.wait_for_height(10))
            assert await ask_hash(joined, height) == await ask_hash(run, height)
            assert await joined.rpc.call("chain_getBlock", 1) is None, "it never had the first blocks"
            assert await joined.stop() == 0
        assert await run.stop() == 0
    log = new.log.read_text()
    assert "joined at block " in log
    assert "Traceback" not in log


@pytest.mark.parametrize("trust", ["7", "0:" + "00" * 32, "x:" + "00" * 32, "7:0xabc"])
def test_what_is_no_block_is_refused(tmp_path: Path, trust: str) -> None:
    save_spec(build_dev_spec(), tmp_path / "chain.json")
    done = CliRunner().invoke(app, ["run", "--base", str(tmp_path), "--sync", "snapshot", "--trust", trust])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
