"""A node from start to stop: the one place where its parts are wired together."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from genesis.builder import Genesis, build_genesis
from genesis.spec import ChainSpec
from node.api.methods import NodeView
from node.api.server import serve_api
from node.chain.admission import Admission
from node.chain.bus import BlockBus
from node.chain.compaction import compact_when_due
from node.chain.pool import TransactionPool
from node.chain.relay import Relay
from node.chain.wal_records import check_database_reaches, read_inputs
from node.children import ChildProcess, supervise
from node.light.serve import serve_light_blocks
from node.memory import limit_arenas, trim_now_and_then
from node.mempool import Mempool
from node.p2p.host import P2PHost, open_host
from node.p2p.peers import PeerBook, PeerKeeper
from node.p2p.pubsub import open_pubsub
from node.p2p.request import request
from node.p2p.verdict import Verdict
from node.replica.live import LiveWorld
from node.replica.network import ChainNetwork
from node.replica.replica import Replica, ReplicaParts
from node.signatures.processes import SignatureProcesses
from node.signer import Signer
from node.snapshot_sync.server import SNAPSHOT_INTERVAL_DEFAULT, SnapshotShelf, make_snapshots, serve_snapshots
from node.store.chain_store import ChainStore
from node.store.history import DEFAULT_RETENTION, Retention
from node.wal import Wal
from proto_specs.codec import decode, encode
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import DecodeError
from proto_specs.types.wire import STATUS_PROTOCOL, Status

logger = logging.getLogger("myelin.node")

STATUS_REQUEST_BYTES_MAX = 64


class NodeRefused(Exception):
    """The node cannot run as configured. The message says what to change."""


@dataclass(frozen=True)
class NodePaths:
    """Where a node keeps its things under its base directory."""

    base: Path

    @property
    def spec(self) -> Path:
        """The chain spec."""
        return self.base / "chain.json"

    @property
    def database(self) -> Path:
        """LevelDB."""
        return self.base / "db"

    @property
    def wal(self) -> Path:
        """The consensus write-ahead log."""
        return self.base / "consensus.wal"

    @property
    def signer(self) -> Path:
        """The signer's history."""
        return self.base / "signer.json"

    @property
    def snapshots(self) -> Path:
        """The snapshots that are offered to peers."""
        return self.base / "snapshots"

    @property
    def peers(self) -> Path:
        """The address book."""
        return self.base / "peers.json"

    @property
    def socket(self) -> Path:
        """The local API."""
        return self.base / "node.sock"

    @property
    def keys(self) -> Path:
        """Key files."""
        return self.base / "keys"

    @property
    def verdicts(self) -> Path:
        """The verifier's verdicts."""
        return self.base / "verdicts"


@dataclass(frozen=True)
class ValidatorKeys:
    """A validator's consensus key and its operator's account key (the verifier signs with the latter)."""

    consensus: SigningKey
    account: SigningKey


@dataclass(frozen=True)
class NodeConfig:
    """How a node runs. `models` is the shard store the verifier works from; None: no verification duty.

    `snapshot_interval` is in blocks; 0: none are made.
    """

    paths: NodePaths
    spec: ChainSpec
    validator: ValidatorKeys | None
    node_seed: bytes
    verifier_node_seed: bytes
    rpc_host: str
    rpc_port: int
    rpc_calls_per_s: int
    listen: tuple[str, ...]
    peers: tuple[str, ...]
    models: Path | None
    retention: Retention = DEFAULT_RETENTION
    snapshot_interval: int = SNAPSHOT_INTERVAL_DEFAULT


async def run_node(config: NodeConfig) -> None:
    """Run until cancelled. Raises NodeRefused, DatabaseError, SignerError, WalDamaged."""
    limit_arenas()
    genesis = build_genesis(config.spec)
    store = ChainStore(config.paths.database, genesis, config.retention)
    signer: Signer | None = None
    try:
        check_database_reaches(config.paths.wal, store.get_head().height)
        if config.validator is not None:
            signer = Signer(config.paths.signer, config.validator.consensus, genesis.hash)
        await _run_parts(config, genesis, store, signer)
    finally:
        if signer is not None:
            signer.close()
        store.close()


async def _run_parts(config: NodeConfig, genesis: Genesis, store: ChainStore, signer: Signer | None) -> None:
    logged = await trio.to_thread.run_sync(read_inputs, config.paths.wal)
    head = store.get_head()
    logger.info("chain %s at block %d %s", config.spec.name, head.height, head.block_hash.hex()[:12])
    logger.info("%s", store.describe_retention())
    with closing(Wal(config.paths.wal)) as wal:
        async with open_host(config.node_seed, list(config.listen)) as host:
            keeper = _make_keeper(config, host, store.genesis_hash)
            network = ChainNetwork(host, keeper, store.genesis_hash)
            pool, bus, signatures = TransactionPool(store, Mempool()), BlockBus(), SignatureProcesses()
            relay = Relay(pool, network.publish)
            admission = Admission(pool, signatures, relay.announce)
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
                    on_transactions=lambda _peer, _batch: Verdict.IGNORE,
                )
            )
            join = partial(network.join, participant=replica, take=partial(relay.receive, admission))
            shelf = SnapshotShelf(config.paths.snapshots, genesis)
            _serve_status(host, store)
            serve_light_blocks(host, store)
            serve_snapshots(host, shelf)
            logger.info("listening at %s", ", ".join(host.addresses))
            async with (
                open_pubsub(host, keeper.penalise, join),
                trio.open_nursery() as nursery,
            ):
                await nursery.start(signatures.run)
                nursery.start_soon(admission.run)
                nursery.start_soon(relay.run)
                view = NodeView(config.spec, store, pool, _read_clock_ms, is_validator=config.validator is not None)
                await nursery.start(serve_api, config.paths.socket, view, bus, admission)
                for child in make_children(config):
                    nursery.start_soon(supervise, child)
                nursery.start_soon(compact_when_due, store, bus)
                if config.snapshot_interval:
                    every = config.snapshot_interval
                    nursery.start_soon(make_snapshots, store, bus, shelf, config.paths.database, every)
                nursery.start_soon(trim_now_and_then)
                nursery.start_soon(keeper.run)
                nursery.start_soon(world.run, replica.start)


def _make_keeper(config: NodeConfig, host: P2PHost, genesis: bytes) -> PeerKeeper:
    """Raises AddressInvalid for a named peer that is none."""
    book = PeerBook(config.paths.peers, host.peer_id)
    book.load()
    for address in config.peers:
        book.add(address, is_named=True)

    async def is_ours(peer: str) -> bool:
        try:
            return decode(Status, await request(host, peer, STATUS_PROTOCOL, b"")).genesis == genesis
        except DecodeError:
            return False

    return PeerKeeper(host, book, is_ours)


def make_children(config: NodeConfig) -> list[ChildProcess]:
    """The processes beside the node: public RPC, and verification where there are keys and models for it."""
    python = sys.executable
    socket = str(config.paths.socket)
    rpc = {"socket": socket, "host": config.rpc_host, "port": config.rpc_port, "rate": config.rpc_calls_per_s}
    children = [ChildProcess("rpc", (python, "-m", "node.rpc"), rpc)]
    if config.validator is not None and config.models is not None:
        duty = {
            "rpc": f"http://{config.rpc_host}:{config.rpc_port}",
            "account_seed": config.validator.account.seed.hex(),
            "node_seed": config.verifier_node_seed.hex(),
            "ss58_prefix": config.spec.ss58_prefix,
            "directory": str(config.paths.verdicts),
            "models": str(config.models),
        }
        children.append(ChildProcess("verifier", (python, "-m", "node.verify"), duty))
    return children


def _read_clock_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


def _serve_status(host: P2PHost, store: ChainStore) -> None:
    async def answer(_body: bytes, _peer: str) -> bytes:
        head = store.get_head()
        return encode(Status(store.genesis_hash, head.height, head.block_hash))

    host.serve_requests(
        STATUS_PROTOCOL,
        answer,
        max_request_bytes=STATUS_REQUEST_BYTES_MAX,
        max_streams_per_peer=4,
        timeout_s=10.0,
    )
