"""Joining a chain by a snapshot: offers, a manifest, its header verified as a light client does, chunks, the import.

A thin shell over `node/transfer/download_run.py`. Peers' claims are used only after verification; a peer that makes a
false claim is reported to `penalise` and not asked again.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from consensus.light.errors import ForkDetected, LightBlockInvalid, LightError, TrustExpired
from consensus.light.verify import LightParams, Trusted, compute_trusting_period_ms, make_trusted_genesis
from genesis.builder import Genesis
from genesis.spec import ChainSpec
from node.light.client import ReadClock, fetch_trusted, verify_with_witnesses, walk_back
from node.light.errors import SourceLost
from node.light.peer_source import PeerSource
from node.light.source import LightSource
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request
from node.store.records import Head
from node.store.snapshot_format import Progress, SnapshotError, SnapshotManifest, hash_chunk
from node.store.snapshot_import import import_snapshot
from node.sync.errors import JoinFailed, TooFewSources
from node.sync.offers import Candidate, choose_candidate
from node.sync.partial import PartialSnapshot, compute_manifest_hash
from node.transfer.download import Download, Fetch
from node.transfer.download_run import DownloadRun
from proto_specs import limits
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.types.chain import compute_block_hash
from proto_specs.types.gossip import LightBlock
from proto_specs.types.snapshot_wire import (
    SNAPSHOT_PROTOCOL,
    AskChunk,
    AskManifest,
    AskOffers,
    SnapshotOffer,
    SnapshotOffers,
    SnapshotPart,
    SnapshotRequest,
)

OFFERS_TIMEOUT_S = 5.0
PART_TIMEOUT_S = 20.0
ROUND_PAUSE_S = 1.0
SOURCES_MIN = 2
"""Peers that have to show the same block, where the operator does not say that one is enough."""
ANSWER_BYTES_MAX = limits.SNAPSHOT_PART_BYTES_MAX + limits.KIB

logger = logging.getLogger("myelin.snapshot")


class SnapshotNetwork(Protocol):
    """Peers that may have snapshots."""

    def list_peers(self) -> Sequence[str]:
        """The connected peers."""

    async def ask(self, peer: str, asked: SnapshotRequest, timeout_s: float) -> bytes:
        """The answer's bytes, at most ANSWER_BYTES_MAX. Raises NetworkError, ProtocolError."""

    def make_source(self, peer: str) -> LightSource:
        """The peer as a light client's source."""

    def penalise(self, peer: str, reason: str) -> None:
        """Reports that this peer served false data."""


class P2PSnapshots:
    """SnapshotNetwork over a host."""

    def __init__(self, host: P2PHost, penalise: Callable[[str, str], None]) -> None:
        """`penalise` is called with each peer that served false data, and the reason."""
        self._host = host
        self._penalise = penalise

    def list_peers(self) -> Sequence[str]:
        """See SnapshotNetwork."""
        return self._host.peers()

    def make_source(self, peer: str) -> LightSource:
        """See SnapshotNetwork."""
        return PeerSource(self._host, peer)

    def penalise(self, peer: str, reason: str) -> None:
        """See SnapshotNetwork."""
        self._penalise(peer, reason)

    async def ask(self, peer: str, asked: SnapshotRequest, timeout_s: float) -> bytes:
        """See SnapshotNetwork."""
        return await request(
            self._host,
            peer,
            SNAPSHOT_PROTOCOL,
            encode(asked, SnapshotRequest),
            timeout_s=timeout_s,
            max_response_bytes=ANSWER_BYTES_MAX,
        )


@dataclass(frozen=True, slots=True)
class JoinTrust:
    """What the joining node trusts: genesis, or the block (height, hash) that its operator names, and for how long.

    It verifies a snapshot of an earlier block than that one back along parent hashes: that block binds it. For a later
    one `sources_min` peers have to show the same block: one alone may be all that its attacker lets it see.
    """

    trusting_period_ms: int
    named: tuple[int, bytes] | None = None
    sources_min: int = SOURCES_MIN


def make_join_trust(
    spec: ChainSpec, named: tuple[int, bytes] | None = None, sources_min: int = SOURCES_MIN
) -> JoinTrust:
    """With the trusting period that the spec's parameters give (light.md)."""
    return JoinTrust(compute_trusting_period_ms(spec.params.staking, spec.block_interval_ms), named, sources_min)


@dataclass(slots=True)
class _Joining:
    network: SnapshotNetwork
    genesis: Genesis
    partial: PartialSnapshot
    params: LightParams
    trust: JoinTrust
    now_ms: ReadClock
    progress: Progress
    refused: set[bytes] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)
    strikes: Counter[str] = field(default_factory=Counter)
    reason: str = "no peer offers a snapshot"

    def blame(self, peer: str, reason: str) -> None:
        logger.warning("%s", reason, extra={"peer": peer})
        self.network.penalise(peer, reason)
        self.ignored.add(peer)
        self.reason = f"{peer}: {reason}"

    def refuse(self, candidate: Candidate, reason: str) -> None:
        """Every peer that offered this manifest offered false data."""
        self.refused.add(candidate.offer.manifest_hash)
        for peer in candidate.peers:
            self.blame(peer, reason)


async def join_by_snapshot(
    *,
    network: SnapshotNetwork,
    genesis: Genesis,
    database: Path,
    trust: JoinTrust,
    now_ms: ReadClock,
    progress: Progress,
    timeout_s: float = math.inf,
) -> Head:
    """Fill the missing directory `database` from peers' offers; returns the head from which block sync continues.

    Downloads are kept in `database` + `.download` until the import. After a kill at any point, another call continues
    there. Waits for peers. Raises JoinFailed after `timeout_s` or when the trusted block is too old, ForkDetected,
    SnapshotError when `database` exists, DatabaseError, OSError.
    """
    if database.exists():
        raise SnapshotError(f"{database} exists: a snapshot is imported into an empty directory only")
    partial = PartialSnapshot(database.with_name(database.name + ".download"))
    params = LightParams(genesis.hash, trust.trusting_period_ms)
    joining = _Joining(network, genesis, partial, params, trust, now_ms, progress)
    said = ""
    with trio.move_on_after(timeout_s):
        while True:
            head = await _try_best(joining, database)
            if head is not None:
                return head
            if joining.reason != said:
                said = joining.reason
                logger.info("no snapshot yet: %s", said)
            await trio.sleep(ROUND_PAUSE_S)
    raise JoinFailed(f"no snapshot in {timeout_s:g} s: {joining.reason}")


async def _try_best(joining: _Joining, database: Path) -> Head | None:
    """One attempt with the best candidate; None when it failed."""
    offers = await _collect_offers(joining)
    begun = joining.partial.find_begun()
    begun_hash = None if begun is None else compute_manifest_hash(begun)
    candidate = choose_candidate(offers, joining.refused, begun_hash, joining.strikes)
    if candidate is None:
        return None
    joining.strikes.update(candidate.peers)
    try:
        block = await _verify_block(joining, candidate)
    except ForkDetected:
        raise
    except TrustExpired as error:  # waiting makes it no younger
        raise JoinFailed(f"{error} (--trust HEIGHT:HASH)") from error
    except (LightError, SourceLost, TooFewSources) as error:
        joining.reason = f"block {candidate.offer.height} is not verified: {error}"
        return None
    if compute_block_hash(block.header) != candidate.offer.block_hash:
        joining.refuse(candidate, f"a snapshot of a block {candidate.offer.height} that is not the chain's")
        return None
    manifest = await _fetch_manifest(joining, candidate)
    if manifest is None or not await _download(joining, candidate, manifest):
        return None
    try:
        head = await trio.to_thread.run_sync(
            import_snapshot,
            joining.partial.directory,
            database,
            joining.genesis,
            joining.progress,
            candidate.offer.block_hash,
        )
    except SnapshotError as error:
        joining.refuse(candidate, f"a false snapshot: {error}")
        joining.partial.remove()
        return None
    joining.partial.remove()
    return head


async def _collect_offers(joining: _Joining) -> dict[str, tuple[SnapshotOffer, ...]]:
    offers: dict[str, tuple[SnapshotOffer, ...]] = {}

    async def ask(peer: str) -> None:
        try:
            answer = await joining.network.ask(peer, AskOffers(), OFFERS_TIMEOUT_S)
            offers[peer] = decode(SnapshotOffers, answer, ANSWER_BYTES_MAX).offers
        except NetworkError as error:
            joining.reason = f"{peer}: {error}"
        except ProtocolError as error:
            joining.blame(peer, f"offers that are none: {error}")

    async with trio.open_nursery() as nursery:
        for peer in joining.network.list_peers():
            if peer not in joining.ignored:
                nursery.start_soon(ask, peer)
    return offers


async def _verify_block(joining: _Joining, candidate: Candidate) -> LightBlock:
    """The chain's block of that height, as a light client finds it. Raises LightError, SourceLost, TooFewSources."""
    params, height = joining.params, candidate.offer.height
    peers = [*candidate.peers, *(one for one in joining.network.list_peers() if one not in candidate.peers)]
    sources = [joining.network.make_source(one) for one in peers if one not in joining.ignored]
    failure: Exception | None = None
    for at, source in enumerate(sources):
        try:
            start = await _find_start(joining, source)
            if height <= start.height:
                return await walk_back(start, height, source, params)
            others = [*sources[:at], *sources[at + 1 :]]
            found = await verify_with_witnesses(
                start, height, source, others, params, joining.now_ms, needs_witness=False
            )
            if 1 + len(found.agreeing) < joining.trust.sources_min:
                raise TooFewSources(height, [source.name, *found.agreeing])
            return found.block
        except (ForkDetected, TooFewSources):
            raise
        except LightBlockInvalid as error:
            joining.blame(source.name, f"a light block that is none: {error}")
            failure = error
        except (LightError, SourceLost) as error:
            failure = error
    raise failure or SourceLost("nobody to ask")


async def _find_start(joining: _Joining, source: LightSource) -> Trusted:
    """Genesis, or the operator's block as the source has it. Raises LightError, SourceLost."""
    if joining.trust.named is not None:
        return await fetch_trusted(*joining.trust.named, source, joining.genesis.hash)
    spec = joining.genesis.spec
    return make_trusted_genesis(joining.genesis.hash, spec.genesis_time_ms, joining.genesis.validators)


async def _fetch_manifest(joining: _Joining, candidate: Candidate) -> SnapshotManifest | None:
    """Asks the providers in turn. A manifest with another hash, or one that contradicts the offer, is a lie."""
    offer = candidate.offer
    for peer in candidate.peers:
        try:
            answer = await joining.network.ask(peer, AskManifest(offer.manifest_hash), PART_TIMEOUT_S)
            data = decode(SnapshotPart, answer, ANSWER_BYTES_MAX).data
            if data is None:
                continue
            manifest = decode(SnapshotManifest, data)
        except NetworkError as error:
            joining.reason = f"{peer}: {error}"
            continue
        except ProtocolError as error:
            joining.blame(peer, f"a manifest that is none: {error}")
            continue
        if compute_manifest_hash(manifest) != offer.manifest_hash:
            joining.blame(peer, "a manifest that is not the one it offered")
            continue
        if (compute_block_hash(manifest.header), len(manifest.chunks)) != (offer.block_hash, offer.chunks):
            joining.refuse(candidate, "a manifest that contradicts its offer")
            return None
        return manifest
    return None


async def _download(joining: _Joining, candidate: Candidate, manifest: SnapshotManifest) -> bool:
    """Fetches every chunk into the partial directory; returns whether all arrived."""
    present = await trio.to_thread.run_sync(joining.partial.begin, manifest)
    peers = [one for one in candidate.peers if one not in joining.ignored]
    run = _JoinRun(joining, candidate, Download(manifest.chunks, present, peers, hash_chunk))
    count = len(manifest.chunks)
    if await run.requests.run(run.fetch, lambda missing: joining.progress("chunks", count - missing, count)):
        return True
    joining.reason = f"{run.requests.download.missing_count} chunks are missing: {joining.reason}"
    return False


class _JoinRun:
    """Requests for a snapshot's chunks, and the handling of the answers."""

    def __init__(self, joining: _Joining, candidate: Candidate, download: Download) -> None:
        self.requests = DownloadRun(download, joining.partial.save_chunk)
        self._joining = joining
        self._hash = candidate.offer.manifest_hash

    async def fetch(self, fetch: Fetch) -> None:
        """A single request from start to end."""
        download = self.requests.download
        try:
            answer = await self._joining.network.ask(fetch.peer, AskChunk(self._hash, fetch.index), PART_TIMEOUT_S)
            data = decode(SnapshotPart, answer, ANSWER_BYTES_MAX).data
        except NetworkError as error:
            self._joining.reason = f"{fetch.peer}: {error}"
            self.requests.fail(fetch)
            return
        except ProtocolError as error:
            self._joining.blame(fetch.peer, f"an answer that is no chunk: {error}")
            download.take_chunk(fetch, None)
            return
        if data is not None and download.is_right(fetch, data):
            await self.requests.keep(fetch, data)
            return
        if data is not None and not download.is_dropped(fetch.peer):
            self._joining.blame(fetch.peer, f"chunk {fetch.index} that does not hash to what its manifest says")
        download.take_chunk(fetch, data)
