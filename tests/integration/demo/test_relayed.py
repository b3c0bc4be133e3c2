"""A worker that nobody can dial serves through a relay, and is paid for what is verified."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from genesis.spec import save_spec
from node.cli.demo import WORKERS
from node.keys.derivation import KeyKind
from node.keys.keystore import get_dev_key
from node.localnet.commands import MYELIN, WORKER_RUN
from node.localnet.plan import LocalnetPlan, build_spec
from node.p2p.identity import compute_peer_id
from tests.integration.demo.conftest import open_running

pytestmark = [pytest.mark.slow, pytest.mark.leaves_open]

RELAY = "relay"
DEAF = (
    "import os, sys; argv = sys.argv[1:]; at = argv.index('--listen'); del argv[at : at + 2]; os.execv(argv[0], argv)"
)
"""Runs a command without the address to listen at, which a localnet gives every worker."""


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def open_relay(base: Path, plan: LocalnetPlan, port: int) -> AsyncIterator[None]:
    """A node that only relays: no validator, no duty."""
    directory = base / RELAY
    directory.mkdir()
    save_spec(build_spec(plan), directory / "chain.json")
    alice = plan.validators[0]
    peer = f"/ip4/{alice.host}/tcp/{alice.port}/p2p/{compute_peer_id(get_dev_key(alice.name, KeyKind.NODE).seed)}"
    argv = [*MYELIN, "run", "--base", str(directory), "--node", f"dev:{RELAY}", "--relay-for", "4", "--no-verify"]
    argv += ["--listen", f"/ip4/127.0.0.1/tcp/{port}", "--rpc-port", str(find_port()), "--peer", peer]
    with (base / "relay.log").open("wb") as log:
        process = await trio.lowlevel.open_process(argv, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()


async def test_a_worker_behind_a_relay_serves_and_is_paid(tmp_path: Path) -> None:
    """The last stage: the client, its neighbours and the verifier dial it; it dials the first."""
    port, name = find_port(), WORKERS[-1]
    relay = f"/ip4/127.0.0.1/tcp/{port}/p2p/{compute_peer_id(get_dev_key(RELAY, KeyKind.NODE).seed)}"
    programs = {name: (sys.executable, "-c", DEAF, *WORKER_RUN, "--relay", relay)}
    async with open_running(tmp_path, programs, lambda plan: open_relay(tmp_path, plan, port)) as running:
        entries = {one.worker: one for one in await running.chain.list_workers(running.model)}
        behind = entries[get_dev_key(name, KeyKind.WORKER).public_key]
        assert behind.addresses == (f"{relay}/p2p-circuit/p2p/{behind.peer_id}",)
        for _ in range(2):
            status, found, errors = await running.infer("Name a colour.", "--tokens", "12")
            assert status == 0, errors
            assert found is not None
            assert found["verified"]
            assert found["stages"] == ["paid"] * 3
