"""Network namespaces with real sockets in them; skipped where they may not be made."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.localnet.namespaces import Namespaces, is_permitted
from node.localnet.plan import LocalnetPlan, Partitions, Wanted, make_plan
from node.machine import processes

SERVE = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='{host}')"
CONNECT = "import socket, sys; socket.create_connection(('{host}', {port}), timeout={timeout_s}).close()"


@asynccontextmanager
async def open_namespaces(base: Path) -> AsyncIterator[tuple[Namespaces, LocalnetPlan]]:
    """Three namespaces with a server at both addresses of the first."""
    plan = make_plan(base, Wanted(3, 0, 1_000, Partitions.NAMESPACES, 0), 1)
    spaces = Namespaces(base, plan)
    alice = plan.validators[0]
    await spaces.make()
    servers = []
    try:
        for host, port in ((alice.host, alice.port), (alice.rpc_host, alice.rpc_port)):
            argv = spaces.wrap("alice", (sys.executable, "-c", SERVE.format(host=host, port=port)))
            servers.append(processes.spawn(argv, base / "log", os.environ))
        yield spaces, plan
    finally:
        with trio.CancelScope(shield=True):
            for one in servers:
                await processes.kill(one)
            await spaces.remove()


async def is_reached(prefix: tuple[str, ...], host: str, port: int, timeout_s: float) -> bool:
    code = CONNECT.format(host=host, port=port, timeout_s=timeout_s)
    argv = [*prefix, sys.executable, "-S", "-c", code]
    return (await trio.run_process(argv, capture_stderr=True, check=False)).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not is_permitted(), reason="network namespaces need Linux, root and `ip`")
async def test_groups_reach_their_own_and_this_machine_reaches_all(tmp_path: Path) -> None:
    async with open_namespaces(tmp_path) as (spaces, plan):
        alice = plan.validators[0]

        async def reaches(name: str, timeout_s: float = 0.3) -> bool:
            return await is_reached(spaces.wrap(name, ()), alice.host, alice.port, timeout_s)

        assert await spaces.is_whole()
        with trio.fail_after(10):
            while not await reaches("bob") or not await is_reached((), alice.rpc_host, alice.rpc_port, 1.0):
                await trio.lowlevel.checkpoint()
        await spaces.set_groups((("alice", "bob"), ("charlie",)))
        assert await reaches("bob", 3.0)
        assert not await reaches("charlie")
        assert await is_reached((), alice.rpc_host, alice.rpc_port, 3.0)
        await spaces.set_groups(())
        assert await reaches("charlie", 3.0)
        bob = plan.validators[1]
        assert not await is_reached(spaces.wrap("bob", ()), alice.rpc_host, alice.rpc_port, 0.3), "no way round the hub"
        assert bob.rpc_host != alice.rpc_host
    assert not await spaces.is_whole()
