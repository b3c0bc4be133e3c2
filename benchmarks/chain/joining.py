"""Measures how long a fresh node takes to join by snapshot: `python -m benchmarks.chain.joining [ACCOUNTS]`.

The chain is grown block by block (million.py), exported, served by hosts of this process over real connections on
loopback, verified as a light client does, downloaded and imported. A single process does both sides.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from benchmarks.chain.million import NAMES, PER_BLOCK, add_block, make_payments, make_spec
from genesis.builder import build_genesis
from node.full.light_server import serve_light_blocks
from node.p2p.host import open_host
from node.store.chain_store import ChainStore
from node.sync.join import JoinTrust, P2PSnapshots, join_by_snapshot
from node.sync.server import SnapshotCatalog, serve_snapshots

ACCOUNTS = 100_000
PROVIDERS = 2
PERIOD_MS = 1 << 50


def measure(directory: Path, count: int) -> dict[str, Any]:
    """Seconds for export and joining, and the size of the snapshot."""
    genesis = build_genesis(make_spec())
    store = ChainStore(directory / "db", genesis)
    nonces = dict.fromkeys(NAMES, 0)
    for made in range(0, count, PER_BLOCK):
        add_block(store, make_payments(nonces, made, min(PER_BLOCK, count - made)))
    height = store.get_head().height
    add_block(store, [])
    catalog = SnapshotCatalog(directory / "snapshots", genesis)
    began_s = time.monotonic()
    catalog.make(directory / "db", height)
    exported_s = time.monotonic() - began_s
    joined_s = trio.run(_join, directory, store, catalog)
    (held,) = catalog.held
    store.close()
    size = sum(path.stat().st_size for path in held.directory.iterdir())
    return {
        "accounts": count,
        "items": held.manifest.items,
        "chunks": len(held.manifest.chunks),
        "snapshot_mib": round(size / (1 << 20), 1),
        "export_s": round(exported_s, 2),
        "join_s": round(joined_s, 2),
    }


async def _join(directory: Path, store: ChainStore, catalog: SnapshotCatalog) -> float:
    genesis = build_genesis(make_spec())
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_host(bytes(32), []))
        for number in range(PROVIDERS):
            server = await stack.enter_async_context(open_host(bytes([1 + number] * 32), ["/ip4/127.0.0.1/tcp/0"]))
            serve_snapshots(server, catalog)
            serve_light_blocks(server, store)
            await host.connect(server.addresses[0])
        began_s = time.monotonic()
        await join_by_snapshot(
            network=P2PSnapshots(host, lambda peer, reason: None),
            genesis=genesis,
            database=directory / "fresh" / "db",
            trust=JoinTrust(PERIOD_MS),
            now_ms=lambda: store.get_head().time_ms,
            progress=lambda what, done, total: None,
            timeout_s=300,
        )
        return time.monotonic() - began_s


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ACCOUNTS
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(measure(Path(directory), count)))


if __name__ == "__main__":
    main()
