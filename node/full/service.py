"""A node from start to stop: the one place where its parts are wired together."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import trio

from genesis.builder import Genesis, build_genesis
from node.chain.admission import TransactionAdmission
from node.chain.bus import BlockBus
from node.chain.compaction import compact_when_due
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.chain.relay import TransactionRelay
from node.full.joining import join
from node.full.light_server import serve_light_blocks
from node.full.notices import log_notices
from node.full.peering import make_peer_manager, open_book, serve_status
from node.full.settings import NodeConfig, NodePaths
from node.local_api.methods.all import NodeView
from node.local_api.server import serve_api
from node.machine.memory import limit_arenas, trim_now_and_then
from node.machine.ports import check_listenable
from node.machine.supervision import ChildProcess, supervise
from node.p2p.acceptance import Acceptance
from node.p2p.circuits import open_circuits
from node.p2p.host import open_host
from node.p2p.kademlia import PeerFinder
from node.p2p.mdns import run_mdns
from node.p2p.pubsub import open_pubsub
from node.replica.live import LiveWorld
from node.replica.network import ChainNetwork
from node.replica.replica import Replica, ReplicaParts
from node.replica.wal import Wal
from node.replica.wal_records import check_database_reaches, read_inputs
from node.signatures.processes import SignatureProcesses
from node.signer.remote.client import RemoteSigner
from node.signer.signer import Signer, VoteSigner
from node.store.chain_store import ChainStore
from node.sync.server import SnapshotCatalog, make_snapshots, serve_snapshots
from proto_specs.ed25519 import SigningKey
from proto_specs.types.wire import Status

logger = logging.getLogger("myelin.node")


async def run_node(config: NodeConfig) -> None:
    """Run until cancelled.

    Raises DatabaseError, AddressUnusable, SignerError, WalDamaged, AddressInvalid, ForkDetected.
    """
    limit_arenas()
    genesis = build_genesis(config.spec)
    if config.by_snapshot and not config.paths.database.exists():
        await join(config, genesis, _read_clock_ms)
    store = ChainStore(config.paths.database, genesis, config.retention)
    signer: VoteSigner | None = None
    try:
        check_listenable(config.rpc_host, config.rpc_port, "--rpc-host", "--rpc-port")  # else its process would retry
        check_database_reaches(config.paths.wal, store.get_head().height)
        if config.validator is not None:
            signer = _open_signer(config.paths, config.validator.consensus, genesis.hash)
        await _run_parts(config, genesis, store, signer)
    finally:
        if signer is not None:
            signer.close()
        store.close()


def _open_signer(paths: NodePaths, key: SigningKey | Path, genesis: bytes) -> VoteSigner:
    return RemoteSigner(key, genesis) if isinstance(key, Path) else Signer(paths.signer, key, genesis)


async def _run_parts(config: NodeConfig, genesis: Genesis, store: ChainStore, signer: VoteSigner | None) -> None:
    logged = await trio.to_thread.run_sync(read_inputs, config.paths.wal)
    head = store.get_head()
    logger.info("chain %s at block %d %s", config.spec.name, head.height, head.block_hash.hex()[:12])
    logger.info("%s", store.describe_retention())
    with closing(Wal(config.paths.wal)) as wal:
        async with open_host(config.node_seed, list(config.listen)) as host:
            book = open_book(config.paths.peers, config.peers, host)
            manager = make_peer_manager(host, book, store.genesis_hash)
            network = ChainNetwork(host, manager, store.genesis_hash)
            pool, bus, signatures = TransactionPool(store, Mempool()), BlockBus(), SignatureProcesses()
            relay = TransactionRelay(pool, network.publish)
            admission = TransactionAdmission(pool, signatures, relay.announce)
            world = LiveWorld(network, signatures, _read_clock_ms)
            replica = Replica(
                ReplicaParts(
                    store=store,
                    pool=pool,
                    signer=signer,
                    wal=wal,
                    logged=logged,
                    world=world,
                    block_interval_ms=config.spec.block_interval_ms,
                    on_finalized=bus.publish,
                    on_transactions=lambda _peer, _batch: Acceptance.IGNORE,
                )
            )
            join = partial(network.join, participant=replica, take=partial(relay.receive, admission))
            catalog = SnapshotCatalog(config.paths.snapshots, genesis)
            serve_status(host, lambda: Status(store.genesis_hash, store.get_head().height, store.get_head().block_hash))
            serve_light_blocks(host, store)
            serve_snapshots(host, catalog)
            logger.info("listening at %s", ", ".join(host.addresses))
            async with (
                open_circuits(host, config.relays, reservations_max=config.relay_for),
                open_pubsub(host, manager.penalise, join),
                trio.open_nursery() as nursery,
            ):
                await nursery.start(signatures.run)
                nursery.start_soon(admission.run)
                nursery.start_soon(relay.run)
                view = NodeView(
                    config.spec,
                    store,
                    pool,
                    _read_clock_ms,
                    config.validator is not None,
                    lambda: host.addresses,
                    replica.report,
                )
                await nursery.start(serve_api, config.paths.socket, view, bus, admission)
                for child in make_children(config):
                    nursery.start_soon(supervise, child)
                nursery.start_soon(compact_when_due, store, bus)
                own = None if config.validator is None else config.validator.account.public_key
                elected = frozenset(one.operator for one in head.validators.members)
                nursery.start_soon(log_notices, bus, elected, own, config.spec.ss58_prefix)
                if config.snapshot_interval:
                    every = config.snapshot_interval
                    nursery.start_soon(make_snapshots, store, bus, catalog, config.paths.database, every)
                nursery.start_soon(trim_now_and_then)
                nursery.start_soon(manager.run)
                if config.discover:
                    nursery.start_soon(PeerFinder(host, book, manager.list_peers, store.genesis_hash).run)
                if config.mdns:
                    nursery.start_soon(run_mdns, host.addresses, store.genesis_hash, manager.learn)
                nursery.start_soon(world.run, replica.start)


def make_children(config: NodeConfig) -> list[ChildProcess]:
    """The processes beside the node: public RPC, and verification if there are keys and models for it."""
    python = sys.executable
    socket = str(config.paths.socket)
    rpc = {"socket": socket, "host": config.rpc_host, "port": config.rpc_port, "rate": config.rpc_calls_per_s}
    children = [ChildProcess("rpc", (python, "-m", "node.web.rpc"), rpc)]
    if config.validator is not None and config.models is not None:
        duty = {
            "rpc": f"http://{config.rpc_host}:{config.rpc_port}",
            "account_seed": config.validator.account.seed.hex(),
            "node_seed": config.verifier_node_seed.hex(),
            "ss58_prefix": config.spec.ss58_prefix,
            "directory": str(config.paths.verdicts),
            "models": str(config.models),
            "device": config.device,
        }
        children.append(ChildProcess("verifier", (python, "-m", "node.verifier"), duty))
    return children


def _read_clock_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000
