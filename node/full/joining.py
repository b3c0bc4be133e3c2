"""Joining by a snapshot, if so configured: a new node fills its database before opening it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import trio

from genesis.builder import Genesis
from node.full.peering import make_peer_manager, open_book, serve_status
from node.full.settings import NodeConfig
from node.p2p.host import open_host
from node.p2p.kademlia import PeerFinder
from node.sync.join import SOURCES_MIN, P2PSnapshots, join_by_snapshot, make_join_trust
from proto_specs.types.wire import Status

logger = logging.getLogger("myelin.snapshot")

REPORT_S = 2.0


async def join(config: NodeConfig, genesis: Genesis, read_clock_ms: Callable[[], int]) -> None:
    """Fill the missing database from what peers offer; waits for peers. Raises ForkDetected, OSError.

    Meanwhile peers get a true status: this node is of their chain, at its beginning.
    """
    report = _Report()
    async with open_host(config.node_seed, list(config.listen)) as host:
        book = open_book(config.paths.peers, config.peers, host)
        manager = make_peer_manager(host, book, genesis.hash)
        serve_status(host, lambda: Status(genesis.hash, 0, genesis.hash))
        logger.info("joining by a snapshot; listening at %s", ", ".join(host.addresses))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.run)
            if config.discover:
                nursery.start_soon(PeerFinder(host, book, manager.list_peers, genesis.hash).run)
            head = await join_by_snapshot(
                network=P2PSnapshots(host, manager.penalise),
                genesis=genesis,
                database=config.paths.database,
                trust=make_join_trust(config.spec, config.trusted_block, 1 if config.trust_one_source else SOURCES_MIN),
                now_ms=read_clock_ms,
                progress=report,
            )
            nursery.cancel_scope.cancel()
    logger.info("joined at block %d %s", head.height, head.block_hash.hex()[:12])


class _Report:
    """Logs the progress from time to time, and at the end of each stage."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """May be called from threads."""
        now_s = time.monotonic()
        if done == total or now_s - self._said_s >= REPORT_S:
            self._said_s = now_s
            logger.info("%s: %d of %d", stage, done, total)
