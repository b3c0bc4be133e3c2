"""A worker process from start to stop: load the shard, listen, register on chain, serve, leave. Wiring only."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from inference.decoding.source import ChooserSource
from inference.drafting.model_drafter import DraftModel, require_same_tokenizer
from inference.drafting.policy import DRAFT_MAX
from inference.engine.device import CPU, Device
from inference.engine.engine import StageEngine, load_session
from inference.engine.golden import check_golden
from inference.engine.ort import ShardSession
from inference.fingerprint import PPB
from inference.model.store import ShardStore
from node.client.account import SigningAccount
from node.client.rpc_chain import RpcChain
from node.p2p.circuits import open_roaming_host
from node.p2p.host import P2PHost
from node.p2p.request import serve_requests
from node.transfer.shards.serve import ShardCatalog, serve_shards
from node.worker.archive import DiskRequestArchive
from node.worker.audits import AuditDesk, AuditedShard, RpcAuditChain
from node.worker.compute import ComputeLoop
from node.worker.departure import Departure
from node.worker.drafting import DraftSource
from node.worker.errors import WorkerRefused, WorkerReplaced
from node.worker.held import HELD_S
from node.worker.leaving import drain, tell_chain
from node.worker.presence import Presence
from node.worker.probe import Prober, serve_probes
from node.worker.registration import RecordWatch, Whereabouts, register, require_bond
from node.worker.request_journal import RequestJournal, get_log_path
from node.worker.server import WorkerParts, WorkerServer
from node.worker.statement_desk import StatementDesk, serve_statements
from proto_specs.codec import decode
from proto_specs.ed25519 import SigningKey
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import OpeningRequest
from proto_specs.types.wire import OPENING_PROTOCOL

logger = logging.getLogger("myelin.worker")

OPENING_REQUEST_BYTES_MAX = 256
OPENING_STREAMS_PER_PEER_MAX = 8
OPENING_TIMEOUT_S = 60.0
HEALTH_POLL_S = 0.5

Loader = Callable[[ShardStore, bytes, int, int, int, Device], ShardSession]


@dataclass(frozen=True)
class ServingWorker:
    """A worker that serves, as whoever watches over it sees it."""

    host: P2PHost
    place: Whereabouts
    compute: ComputeLoop
    presence: Presence
    server: WorkerServer


Roam = Callable[[ServingWorker], Awaitable[None]]
"""Runs beside a serving worker, and returns once the chain shows other layers of it."""


@dataclass(frozen=True)
class WorkerConfig:
    """How a worker runs. Prices are nmyl per layer and token, the bond nmyl, `kv_positions` the KV memory budget.

    Whoever stops it gives running requests `grace_s` to finish. As a path's first stage it drafts up to `drafts_max`
    tokens of a call, with a `draft_model` of the same tokenizer where it has one, which has as much KV memory again.
    """

    directory: Path
    models: Path
    model: bytes
    start: int
    end: int
    worker_key: SigningKey
    node_seed: bytes
    listen: tuple[str, ...]
    bond: int
    prefill_price: int
    decode_price: int
    kv_positions: int
    threads: int = 1
    device: Device = CPU
    grace_s: float = 60.0
    drafts_max: int = DRAFT_MAX
    draft_model: bytes | None = None
    statement_wait_s: float = HELD_S
    """So long a last stage waits for the statement of a request that its client means to settle with others."""
    relays: tuple[str, ...] = ()
    """Through which it is reached, instead of where it listens."""


def load_verified(store: ShardStore, model: bytes, start: int, end: int, threads: int, device: Device) -> ShardSession:
    """The honest loader: every unit is hashed against the manifest before it is used."""
    return load_session(store, model, start, end, threads, device=device)


async def run_worker(
    config: WorkerConfig,
    account: SigningAccount,
    load: Loader = load_verified,
    departure: Departure | None = None,
    roam: Roam | None = None,
) -> None:
    """Serve until the departure is asked for and carried out, until `roam` returns, or until cancelled.

    Raises WorkerRefused, JournalError, StoreError, EngineError, CallFailed, RpcError at the start, and WorkerReplaced
    at the end when the worker key serves elsewhere.
    """
    departure = departure or Departure()
    chain = account.chain
    manifest = await chain.get_manifest(config.model)
    if manifest is None:
        raise WorkerRefused(f"model {config.model.hex()} is not registered on this chain")
    if not 0 <= config.start < config.end <= manifest.architecture.layers:
        raise WorkerRefused(f"layers {config.start}:{config.end} are not in 0:{manifest.architecture.layers}")
    store = ShardStore(config.models)
    require_draft_model(config, store, manifest)
    await require_bond(config, account)
    layers = (config.start, config.end)
    logger.info("loading layers %d to %d of %s on %s", config.start, config.end - 1, manifest.name, config.device)
    session = await trio.to_thread.run_sync(load, store, config.model, *layers, config.threads, config.device)
    await tell_golden(session, store, config.model, manifest)
    drafts = await load_drafts(config, store, manifest, load)
    archive = DiskRequestArchive(config.directory, account, config.statement_wait_s)
    archive.join_left(config.worker_key)
    choosers = ChooserSource(store, config.model, manifest)
    compute = ComputeLoop(StageEngine(session, config.kv_positions), choosers)
    with contextlib.closing(await open_request_journal(config, account)) as journal:
        async with (
            open_roaming_host(config.node_seed, config.listen, config.relays) as (host, addresses),
            trio.open_nursery() as nursery,
        ):
            place = Whereabouts(host.peer_id, tuple(addresses))
            audited = AuditedShard(store, config.model, manifest, *layers, config.worker_key)
            audits = AuditDesk(config.directory / "audits", audited, RpcAuditChain(chain), compute)
            serve_openings(host, archive, audits)
            serve_statements(host, StatementDesk(config.worker_key, manifest, chain, archive))
            serve_shards(host, ShardCatalog(store))
            entry = await register(config, account, place)
            archive.held.gross_max = entry.gross_max
            nursery.start_soon(compute.run)
            nursery.start_soon(archive.run)
            nursery.start_soon(audits.run)
            presence = Presence()
            parts = WorkerParts(entry, manifest, config.worker_key, chain, compute, archive, journal, presence, drafts)
            server = WorkerServer(host, nursery, parts)
            count = server.requests.__len__
            serve_probes(host, Prober(entry, host.peer_id, chain.genesis, config.worker_key, compute, presence, count))
            watch = RecordWatch(config, account, place, presence, departure)
            nursery.start_soon(watch.run)
            departure.is_serving = True
            logger.info("worker %s serves at %s", entry.worker.hex()[:12], ", ".join(addresses))
            if not await has_roamed(departure, roam, ServingWorker(host, place, compute, presence, server)):
                archive.held.is_leaving = True
                async with trio.open_nursery() as leaving:
                    if departure.tells_chain:
                        leaving.start_soon(tell_chain, account, entry.worker, host.peer_id)
                    await drain(server.requests, presence, archive.count_undecided, departure.reason, config.grace_s)
            nursery.cancel_scope.cancel()
    if watch.replaced_by is not None:
        raise WorkerReplaced(entry.worker, watch.replaced_by)


async def tell_golden(session: ShardSession, store: ShardStore, model: bytes, manifest: Manifest) -> None:
    """Log how well this machine computes the layers. Raises EngineError when it does not."""
    distance = await trio.to_thread.run_sync(check_golden, session, store, model)
    if distance is None:
        logger.warning("%s has no golden windows: whether this machine computes it right is not known", manifest.name)
    else:
        logger.info(
            "golden windows of the layers: %.1e off, %.1e allowed", distance / PPB, manifest.profile.golden_ppb / PPB
        )


def require_draft_model(config: WorkerConfig, store: ShardStore, target: Manifest) -> None:
    """See that what is to draft can, before anything is fetched, loaded or paid, and whatever the layers are now.

    Raises StoreError, DraftModelError.
    """
    if config.draft_model is not None:
        require_same_tokenizer(store.load_manifest(config.draft_model), target)


async def load_drafts(config: WorkerConfig, store: ShardStore, target: Manifest, load: Loader) -> DraftSource:
    """What a first stage drafts with; others need nothing. Raises StoreError, EngineError, DraftModelError."""
    name = config.draft_model
    if name is None or config.start or not config.drafts_max:
        return DraftSource(config.drafts_max)
    manifest = store.load_manifest(name)
    logger.info("loading %s for drafts on %s", manifest.name, config.device)
    whole = (0, manifest.architecture.layers)
    session = await trio.to_thread.run_sync(load, store, name, *whole, config.threads, config.device)
    return DraftSource(config.drafts_max, DraftModel(StageEngine(session, config.kv_positions), target))


async def has_roamed(departure: Departure, roam: Roam | None, serving: ServingWorker) -> bool:
    """Wait for the end: true when it is that the worker holds other layers, false when it is asked to leave."""
    is_elsewhere = False

    async def run_roam(scope: trio.CancelScope) -> None:
        nonlocal is_elsewhere
        if roam is not None:
            await roam(serving)
            is_elsewhere = True
            scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_roam, nursery.cancel_scope)
        await departure.wait_asked()
        nursery.cancel_scope.cancel()
    return is_elsewhere


async def open_request_journal(config: WorkerConfig, account: SigningAccount) -> RequestJournal:
    """Open this key's journal. If a registered worker has none it is lost: sessions open by now are not served."""
    worker = config.worker_key.public_key
    path = get_log_path(config.directory, account.chain.genesis, worker)
    if path.exists():
        return RequestJournal(path, 0)
    # A node that still catches up does not know which sessions are open, or that this key has served before.
    height = await _wait_until_current(account.chain)
    is_known = await account.chain.get_worker(worker) is not None
    return RequestJournal(path, height if is_known else 0)


async def _wait_until_current(chain: RpcChain) -> int:
    """Wait until the node's last block is recent; returns its height."""
    told = False
    while True:
        health = await chain.get_health()
        if health.is_current:
            return health.height
        if not told:
            logger.warning(
                "no log of taken requests is here: waiting for the node, which is at block %d", health.height
            )
            told = True
        await trio.sleep(HEALTH_POLL_S)


def serve_openings(host: P2PHost, archive: DiskRequestArchive, audits: AuditDesk | None = None) -> None:
    """Answer whoever asks to see a window of a settled request, or of an audit."""

    async def answer(body: bytes, _peer: str) -> bytes:
        found = None if audits is None else audits.find(decode(OpeningRequest, body).request)
        return await archive.open(body) if found is None else found

    serve_requests(
        host,
        OPENING_PROTOCOL,
        answer,
        max_request_bytes=OPENING_REQUEST_BYTES_MAX,
        max_streams_per_peer=OPENING_STREAMS_PER_PEER_MAX,
        timeout_s=OPENING_TIMEOUT_S,
    )
