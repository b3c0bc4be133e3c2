"""Fetches units of weights from several peers at once. Data counts once it hashes to the manifest's root.

A unit is fetched in two steps: the leaves of its chunks, which the root over them proves, then the chunks, each proven
by its leaf, over `node/transfer/download_run.py`. A peer that serves false data is left out of everything after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio

from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request
from node.transfer.download import Download, Fetch
from node.transfer.download_run import DownloadRun
from node.transfer.shards.errors import FetchFailed
from node.transfer.shards.partial import PartialUnit
from proto_specs import limits
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.hashing import HASH_BYTES
from proto_specs.merkle import compute_root_of_leaves, hash_leaf
from proto_specs.types.manifest import Manifest, Unit, UnitKind
from proto_specs.types.shard_wire import SHARD_PROTOCOL, UNIT_CHUNKS_MAX, AskLeaves, AskPiece, ShardPart, ShardRequest

LEAVES_TIMEOUT_S = 120.0
"""Long enough for a peer that must first hash the unit."""
PIECE_TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = limits.CHUNK_BYTES + limits.KIB

Progress = Callable[[int, int], None]
"""(bytes present, bytes wanted)."""

logger = logging.getLogger("myelin.shards")


def select_units(manifest: Manifest, layers: tuple[int, int] | None) -> tuple[Unit, ...]:
    """The units for a worker of these layers, its golden windows and those for text. None: all. Raises FetchFailed."""
    if layers is None:
        return manifest.units
    if layers[1] > manifest.architecture.layers:
        raise FetchFailed(f"{manifest.name} has layers 0:{manifest.architecture.layers}, not {layers[0]}:{layers[1]}")
    texts = {(UnitKind.TOKENIZER, 0), (UnitKind.CHAT_TEMPLATE, 0)}
    golden = {(UnitKind.GOLDEN, boundary) for boundary in range(layers[0], layers[1] + 1)}
    wanted = {*ShardRange(manifest, *layers).units, *texts, *golden}
    return tuple(unit for unit in manifest.units if (unit.kind, unit.index) in wanted)


async def connect_any(host: P2PHost, peers: Sequence[Sequence[str]]) -> list[str]:
    """The ids of the peers reached at one of their addresses. Raises FetchFailed when none is."""
    reached: list[str] = []
    failures: list[str] = []

    async def connect(addresses: Sequence[str]) -> None:
        for address in addresses:
            try:
                reached.append(await host.connect(address))
                return
            except NetworkError as error:
                failures.append(str(error))

    async with trio.open_nursery() as nursery:
        for addresses in peers:
            nursery.start_soon(connect, addresses)
    if not reached:
        told = "; ".join(failures) or "the chain knows no worker of it: name one with --peer"
        raise FetchFailed(f"nobody to fetch from: {told}; name a worker with --peer")
    return reached


class ShardFetcher:
    """The downloads of one command from `peers`, connected or dialled by address."""

    def __init__(self, host: P2PHost, peers: Sequence[str], store: ShardStore, model: bytes) -> None:
        self._host = host
        self._peers = list(dict.fromkeys(peers))
        self._store = store
        self._model = model
        self._reasons: dict[str, str] = {}

    async def fetch(self, units: Sequence[Unit], progress: Progress) -> None:
        """Fetches all missing units. After a kill at any point, call it again. Raises FetchFailed, OSError."""
        total, done = sum(unit.bytes_total for unit in units), 0
        for unit in units:
            if not self._store.has_unit(self._model, unit):
                await self._fetch_unit(unit, lambda part, done=done: progress(done + part, total))  # type: ignore[misc]
            done += unit.bytes_total
            progress(done, total)

    async def _fetch_unit(self, unit: Unit, progress: Callable[[int], None]) -> None:
        name = self._store.get_unit_path(self._model, unit).name
        count = -(-unit.bytes_total // limits.CHUNK_BYTES)
        if count > UNIT_CHUNKS_MAX:
            raise FetchFailed(f"{name} has {count} chunks, {UNIT_CHUNKS_MAX} can be fetched: import the checkpoint")
        leaves, providers = await self._find_leaves(unit, count)
        if not providers:
            raise FetchFailed(f"nobody of {len(self._peers)} has {name}{self._describe()}")
        partial = PartialUnit(self._store.get_unit_path(self._model, unit), unit.bytes_total)
        present = await trio.to_thread.run_sync(partial.begin, leaves)
        run = _FetchRun(self, unit, partial, Download(leaves, present, providers, hash_leaf))

        def report(missing: int) -> None:
            progress(min((count - missing) * limits.CHUNK_BYTES, unit.bytes_total))

        if not await run.requests.run(run.fetch, report):
            missing = run.requests.download.missing_count
            raise FetchFailed(f"{missing} of {count} chunks of {name} are missing{self._describe()}")
        await trio.to_thread.run_sync(partial.finish)

    async def _find_leaves(self, unit: Unit, count: int) -> tuple[list[bytes], list[str]]:
        """The leaves, and the peers that have them. All are asked at once; a peer that sends others is left out."""
        found: list[bytes] = []
        providers: list[str] = []

        async def ask(peer: str) -> None:
            nonlocal found
            data = await self.ask(peer, AskLeaves(self._model, unit.kind, unit.index), LEAVES_TIMEOUT_S)
            if data is None:
                return
            leaves = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
            if len(data) != count * HASH_BYTES or compute_root_of_leaves(leaves) != unit.root:
                self.leave_out(peer, f"other chunks than {UnitKind(unit.kind).name} {unit.index} has")
                return
            found = leaves
            providers.append(peer)

        async with trio.open_nursery() as nursery:
            for peer in self._peers:
                nursery.start_soon(ask, peer)
        return found, providers

    async def ask(self, peer: str, asked: ShardRequest, timeout_s: float) -> bytes | None:
        """The answer's bytes; None when the peer does not have them or does not answer."""
        try:
            answer = await request(
                self._host,
                peer,
                SHARD_PROTOCOL,
                encode(asked, ShardRequest),
                timeout_s=timeout_s,
                max_response_bytes=ANSWER_BYTES_MAX,
            )
            return decode(ShardPart, answer, ANSWER_BYTES_MAX).data
        except NetworkError as error:
            self._reasons[peer] = str(error)
        except ProtocolError as error:
            self.leave_out(peer, f"no answer to read: {error}")
        return None

    def leave_out(self, peer: str, reason: str) -> None:
        """The peer serves false data: it is asked for nothing more."""
        logger.warning("%s: %s", peer, reason)
        self._reasons[peer] = reason
        self._peers = [one for one in self._peers if one != peer]

    def make_request(self, unit: Unit, chunk: int) -> AskPiece:
        """The time to wait for one chunk."""
        return AskPiece(self._model, unit.kind, unit.index, chunk)

    def _describe(self) -> str:
        return "".join(f"; {peer[-8:]}: {reason}" for peer, reason in self._reasons.items())


class _FetchRun:
    """Requests for a unit's chunks, and the handling of the answers."""

    def __init__(self, fetcher: ShardFetcher, unit: Unit, partial: PartialUnit, download: Download) -> None:
        self.requests = DownloadRun(download, partial.save_chunk)
        self._fetcher = fetcher
        self._unit = unit

    async def fetch(self, fetch: Fetch) -> None:
        """A single request from start to end."""
        asked = self._fetcher.make_request(self._unit, fetch.index)
        data = await self._fetcher.ask(fetch.peer, asked, PIECE_TIMEOUT_S)
        if data is None:
            self.requests.fail(fetch)
        elif self.requests.download.is_right(fetch, data):
            await self.requests.keep(fetch, data)
        else:
            self._fetcher.leave_out(fetch.peer, f"chunk {fetch.index} that does not hash to its leaf")
            self.requests.download.take_chunk(fetch, data)
