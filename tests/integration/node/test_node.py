"""A real node from start to stop: signals, children that die, a second process, damaged files and their cures."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
import trio

from node.full.settings import NodePaths
from node.replica.wal import Wal
from tests.integration.node.processes import VALIDATOR, NodeDirectory, run_myelin, wait_until_gone

pytestmark = pytest.mark.slow


@pytest.fixture
def node(tmp_path: Path) -> NodeDirectory:
    return NodeDirectory.init(tmp_path / "node", interval_ms=100)


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_cleanly_with_all_its_children(node: NodeDirectory, with_signal: signal.Signals) -> None:
    async with node.run() as run:
        await run.wait_for_height(2)
        children = list(run.list_children())
        assert children
        assert await run.stop(with_signal) == 0
        await wait_until_gone(children)
    assert "Traceback" not in node.log.read_text()
    assert not NodePaths(node.base).socket.exists()


async def test_a_killed_rpc_process_comes_again_and_the_chain_goes_on(node: NodeDirectory) -> None:
    async with node.run() as run:
        height = await run.wait_for_height(2)
        (child,) = run.list_children("node.web.rpc")
        os.kill(child, signal.SIGKILL)
        await wait_until_gone([child])
        assert await run.wait_for_height(height + 3) >= height + 3
        assert await run.stop() == 0


async def test_a_stopped_rpc_process_delays_no_block(node: NodeDirectory) -> None:
    """It takes nothing from the socket: the node goes on without it."""
    async with node.run() as run:
        await run.wait_for_height(2)
        (child,) = run.list_children("node.web.rpc")
        os.kill(child, signal.SIGSTOP)
        try:
            with trio.fail_after(30):
                while "block 40 " not in node.log.read_text():
                    await trio.sleep(0.1)
        finally:
            os.kill(child, signal.SIGCONT)
        assert await run.wait_for_height(40) >= 40
        assert await run.stop() == 0


async def test_a_second_node_on_one_directory_is_refused(node: NodeDirectory) -> None:
    async with node.run() as run:
        await run.wait_for_height(1)
        second = await trio.to_thread.run_sync(lambda: run_myelin(*node.argv()[3:]))
        assert second.returncode == 1
        assert "open in another process" in second.stderr
        assert "Traceback" not in second.stderr
        assert await run.stop() == 0


async def run_briefly(node: NodeDirectory, height: int) -> None:
    async with node.run() as run:
        await run.wait_for_height(height)
        run.kill()
        await run.process.wait()


async def test_a_hole_in_the_log_stops_it_and_repair_lets_it_go_on(node: NodeDirectory) -> None:
    await run_briefly(node, 2)
    wal = NodePaths(node.base).wal
    wal.unlink()
    with contextlib.closing(Wal(wal)) as log:
        log.append(b"this will be damaged")
        log.append(b"and this is whole")
    damaged = bytearray(wal.read_bytes())
    damaged[damaged.index(b"damaged")] ^= 1
    wal.write_bytes(damaged)
    stopped = await trio.to_thread.run_sync(lambda: run_myelin(*node.argv()[3:]))
    assert stopped.returncode == 1
    assert "myelin wal repair" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    repaired = run_myelin("wal", "repair", "--base", str(node.base))
    assert repaired.returncode == 0
    assert str(len(damaged)) in repaired.stdout
    async with node.run() as run:
        await run.wait_for_height(4)
        assert await run.stop() == 0


async def test_without_the_signers_history_it_does_not_start_until_it_is_restored(node: NodeDirectory) -> None:
    await run_briefly(node, 2)
    signer = NodePaths(node.base).signer
    exported = run_myelin("signer", "export", "--base", str(node.base))
    assert exported.returncode == 0
    signer.unlink()
    refused = await trio.to_thread.run_sync(lambda: run_myelin(*node.argv()[3:]))
    assert refused.returncode == 1
    assert "myelin signer import" in refused.stderr
    backup = node.base / "backup.json"
    backup.write_text(exported.stdout)
    assert run_myelin("signer", "import", str(backup), "--base", str(node.base)).returncode == 0
    async with node.run() as run:
        await run.wait_for_height(4)
        assert await run.stop() == 0


def test_a_directory_is_initialised_once(node: NodeDirectory) -> None:
    again = run_myelin("init", "--base", str(node.base), *VALIDATOR)
    assert again.returncode == 1
    assert "initialised" in again.stderr
    missing = run_myelin("run", "--base", str(node.base / "nowhere"))
    assert missing.returncode == 1
    assert "myelin init" in missing.stderr
