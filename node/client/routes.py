"""Which workers a request goes to: what the chain lists, kept from block to block, and what was seen of each.

A request waits for no RPC: the list of a model in use is read again in the background whenever the height changes, and
at once when a worker cannot be reached, which may have another address by now.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from inference.routing import LayerOffer, NoPathError, PathLoad, Prefer, choose_path, is_kept
from node.client.answer import Ask
from node.client.chain_view import WorkerEntry
from node.client.errors import InferenceRefused, WorkersAway
from node.client.offers import make_offers
from node.client.path_sight import PathSight
from node.client.probe_rounds import ProbeRounds, ProbeSource
from node.client.transport import StagePeer
from node.client.worker_memory import WorkerMemory
from proto_specs.errors import MyelinError
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import PathStage, compute_positions, compute_stage_price

POLL_S = 0.5
UNUSED_S = 300.0
"""A model that nobody asks for so long is no longer read ahead."""
REREAD_S = 1.0
"""The list is not read again sooner, however many workers fall silent at once."""
TAKEN_MAX = 256

logger = logging.getLogger("myelin.client")


class WorkerSource(Protocol):
    """The part of the chain that routes need. Every method raises ChainUnreachable."""

    async def get_height(self) -> int:
        """The last block's height. What is asked after it is read anew."""

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        """All workers registered for a model."""

    async def get_manifest(self, model: bytes) -> Manifest | None:
        """The manifest of a registered model; None when there is none."""


@dataclass(frozen=True, slots=True)
class Route:
    """The workers of a path, in its order, and what its time was predicted from."""

    manifest: Manifest
    workers: tuple[WorkerEntry, ...]
    offers: tuple[LayerOffer, ...]
    load: PathLoad

    @property
    def path(self) -> tuple[PathStage, ...]:
        """As an order names them."""
        return tuple(
            PathStage(one.worker, one.start, one.end, one.prefill_price, one.decode_price) for one in self.workers
        )

    @property
    def peers(self) -> tuple[StagePeer, ...]:
        """Where they are reached."""
        return tuple(
            StagePeer(f"stage {number} (worker {one.worker.hex()[:12]})", one.peer_id, one.addresses)
            for number, one in enumerate(self.workers)
        )

    def compute_price(self, prompt_tokens: int, tokens: int) -> int:
        """Nmyl for so many tokens."""
        return sum(compute_stage_price(one, prompt_tokens, tokens) for one in self.path)


@dataclass(slots=True)
class _Listed:
    height: int
    read_s: float
    failures_known: int
    """Those that were noted before it was read."""
    used_s: float
    manifest: Manifest
    workers: tuple[WorkerEntry, ...]

    @property
    def layers(self) -> int:
        return self.manifest.architecture.layers


class Routes:
    """Chooses paths. `run` keeps what it knows of the chain and, with a `source` of probes, of the workers fresh."""

    def __init__(self, chain: WorkerSource, memory: WorkerMemory, source: ProbeSource | None = None) -> None:
        self.memory = memory
        self._chain = chain
        self._listed: dict[bytes, _Listed] = {}
        self._probes = None if source is None else ProbeRounds(memory, source)
        self._taken: dict[tuple[bytes, Prefer, int], tuple[bytes, ...]] = {}
        """The path taken last, by model, preference and highest price."""

    async def run(self) -> None:
        """Read lists of workers again at every new height, and ask the workers on them, until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._probes is not None:
                nursery.start_soon(self._probes.run, self._list_used, self._check_address)
            while True:
                await trio.sleep(POLL_S)
                try:
                    if self._listed:
                        await self.refresh(await self._chain.get_height())
                except MyelinError as error:
                    logger.warning("workers not read again: %s", error.message)

    async def choose(self, ask: Ask, excluded: Collection[bytes]) -> Route:
        """The best path for a request, without the excluded workers: but for those that have another address by now.

        Whoever excludes a worker notes in `memory` before that it failed.

        Other workers that failed lately are taken only where nobody else serves. Raises InferenceRefused, NoPathError,
        ChainUnreachable.
        """
        listed, banned = await self._get_after(ask.model, excluded)
        entries = self._list_able(listed, ask)
        try:
            return self._choose_among(listed, entries, ask, banned)
        except NoPathError:
            return self._choose_failed(listed, entries, ask, banned)

    async def choose_continuation(
        self, ask: Ask, keep: Sequence[PathStage], lost: set[bytes], excluded: Collection[bytes]
    ) -> Route:
        """The best path for the rest of an answer: the stages of `keep` stay, but for the `lost` workers' layers.

        Neighbouring lost ranges may go to one worker, and one range to several. Any path, as `choose` does, when
        nobody fits in. Raises what `choose` raises.
        """
        listed, banned = await self._get_after(ask.model, {*excluded, *lost})
        known = {one.worker: one for one in listed.workers}
        stays = [
            known[one.worker]
            for one in keep
            if one.worker in known and one.worker not in lost and _is_unchanged(known[one.worker], one)
        ]
        free = _find_gaps(stays, listed.layers)
        fitting = [
            one
            for one in self._list_able(listed, ask)
            if any(start <= one.start and one.end <= end for start, end in free)
        ]
        kept = {one.worker for one in stays}
        for choose in (self._choose_among, self._choose_failed):
            try:
                return choose(listed, [*stays, *fitting], ask, banned - kept, kept)
            except NoPathError:
                continue
        return await self.choose(ask, banned)

    def has_path(self, ask: Ask, excluded: Collection[bytes]) -> bool:
        """Whether workers that are well could serve a request without the excluded ones, as far as is known now."""
        listed = self._listed.get(ask.model)
        if listed is None:
            return False
        now_s = trio.current_time()
        entries = self._list_able(listed, ask)
        avoided = {one.worker for one in entries if self.memory.is_avoided(one.worker, now_s)}
        offers = make_offers(entries, self.memory, _count_positions(ask), now_s)
        try:
            self._find(listed, entries, offers, ask, {*excluded, *avoided}, Prefer.FAST)
        except NoPathError:
            return False
        return True

    def watch(self, route: Route) -> PathSight:
        """What a request over a route shows of its workers."""
        return PathSight(self.memory, route.offers, route.load, trio.current_time())

    def require_workers(self) -> None:
        """Raises WorkersAway when a model in use has no path but over workers that failed lately."""
        now_s = trio.current_time()
        for listed in self._listed.values():
            active = [one for one in listed.workers if one.is_active]
            offers = make_offers(active, self.memory, 0, now_s)
            avoided = [one.worker for one in active if self.memory.is_avoided(one.worker, now_s)]
            dearest = max((one.price for one in offers), default=0)
            try:
                choose_path(
                    offers, listed.layers, prompt_tokens=1, new_tokens=1, max_price=dearest, avoid=frozenset(avoided)
                )
            except NoPathError:
                if avoided:  # else nobody is registered, which the chain tells
                    raise WorkersAway(avoided) from None

    def forget(self, model: bytes) -> None:
        """What is known of a model's workers proved wrong: read it again before the next path."""
        self._listed.pop(model, None)

    def _choose_among(
        self,
        listed: _Listed,
        entries: Sequence[WorkerEntry],
        ask: Ask,
        banned: Collection[bytes],
        kept: Collection[bytes] = (),
    ) -> Route:
        """The best path over workers that are well, or are `kept`. Raises NoPathError."""
        now_s = trio.current_time()
        avoided = {one.worker for one in entries if self.memory.is_avoided(one.worker, now_s)} - set(kept)
        offers = make_offers(entries, self.memory, _count_positions(ask), now_s)
        return self._find(listed, entries, offers, ask, {*banned, *avoided}, ask.prefer, is_steady=not kept)

    def _choose_failed(
        self,
        listed: _Listed,
        entries: Sequence[WorkerEntry],
        ask: Ask,
        banned: Collection[bytes],
        kept: Collection[bytes] = (),
    ) -> Route:
        """The path over the fewest workers that failed lately. Raises NoPathError."""
        now_s = trio.current_time()
        failed = {one.worker for one in entries if self.memory.is_avoided(one.worker, now_s)} - set(kept)
        offers = make_offers(entries, self.memory, _count_positions(ask), now_s, failed)
        return self._find(listed, entries, offers, ask, banned, Prefer.FAST)

    def _find(
        self,
        listed: _Listed,
        entries: Sequence[WorkerEntry],
        offers: Sequence[LayerOffer],
        ask: Ask,
        avoid: Collection[bytes],
        prefer: Prefer,
        *,
        is_steady: bool = False,
    ) -> Route:
        load = PathLoad(len(ask.prompt), ask.tokens_max, self.memory.get_hops())
        path = choose_path(
            offers,
            listed.layers,
            prompt_tokens=load.prompt_tokens,
            new_tokens=load.new_tokens,
            max_price=ask.max_price,
            prefer=prefer,
            avoid=avoid,
            hops=load.hops,
        )
        if is_steady:
            path = self._stay(ask, path, {one.worker: one for one in offers if one.worker not in avoid}, load)
        known = {one.worker: one for one in entries}
        return Route(listed.manifest, tuple(known[one.worker] for one in path), path, load)

    def _stay(
        self, ask: Ask, best: tuple[LayerOffer, ...], usable: dict[bytes, LayerOffer], load: PathLoad
    ) -> tuple[LayerOffer, ...]:
        """The path taken last, unless one of its workers may not be used or the best one of now is clearly better."""
        wish = (ask.model, ask.prefer, ask.max_price)
        taken = self._taken.pop(wish, ())
        last = tuple(usable[one] for one in taken if one in usable)
        is_usable = bool(last) and len(last) == len(taken) and all(one.price <= ask.max_price for one in last)
        path = last if is_usable and is_kept(last, best, load, ask.prefer) else best
        self._taken[wish] = tuple(one.worker for one in path)
        if len(self._taken) > TAKEN_MAX:
            del self._taken[next(iter(self._taken))]
        return path

    def _list_able(self, listed: _Listed, ask: Ask) -> list[WorkerEntry]:
        return [one for one in listed.workers if one.is_active and _bears(one, ask)]

    async def _get_after(self, model: bytes, excluded: Collection[bytes]) -> tuple[_Listed, set[bytes]]:
        """The list, read again if one of the excluded failed since; and the excluded that have not moved."""
        listed = await self._get(model)
        now_s = trio.current_time()
        failed = [one for one in excluded if self.memory.has_failed_since(one, listed.failures_known, now_s)]
        if self._probes is not None:
            for one in failed:
                self._probes.hurry(one)
        if failed:
            await self._reread(model)
            now_s = trio.current_time()
        return listed, {one for one in excluded if not self.memory.has_moved(one, now_s)}

    async def _get(self, model: bytes) -> _Listed:
        listed = self._listed.get(model)
        if listed is None:
            failures = self.memory.failures
            height = await self._chain.get_height()
            manifest = await self._chain.get_manifest(model)
            if manifest is None:
                raise InferenceRefused(f"model {model.hex()} is not registered; see `myelin query models`")
            workers = await self._chain.list_workers(model)
            now_s = trio.current_time()
            listed = self._listed[model] = _Listed(height, now_s, failures, now_s, manifest, workers)
        listed.used_s = trio.current_time()
        return listed

    async def refresh(self, height: int) -> None:
        now_s = trio.current_time()
        for model, listed in list(self._listed.items()):
            if now_s - listed.used_s > UNUSED_S:
                del self._listed[model]
            elif listed.height != height:
                self._take(listed, await self._chain.list_workers(model))
                listed.height = height

    async def _reread(self, model: bytes) -> None:
        """Read a model's workers past every cache. What is known stays while the chain is out of reach."""
        listed = self._listed.get(model)
        if listed is None:
            return
        # Whoever asks meanwhile does not read it too.
        listed.read_s, listed.failures_known = trio.current_time(), self.memory.failures
        try:
            listed.height = await self._chain.get_height()
            self._take(listed, await self._chain.list_workers(model))
        except MyelinError as error:
            logger.warning("workers not read again: %s", error.message)

    def _take(self, listed: _Listed, workers: tuple[WorkerEntry, ...]) -> None:
        before = {one.worker: (one.peer_id, one.addresses) for one in listed.workers}
        now_s = trio.current_time()
        for one in workers:
            if before.get(one.worker, (one.peer_id, one.addresses)) != (one.peer_id, one.addresses):
                self.memory.note_moved(one.worker, now_s)
                if self._probes is not None:
                    self._probes.hurry(one.worker)
        listed.workers, listed.read_s = workers, now_s

    async def _check_address(self, silent: WorkerEntry) -> None:
        """A worker answers no probe: it may be reached elsewhere by now."""
        listed = self._listed.get(silent.model)
        if listed is not None and trio.current_time() - listed.read_s >= REREAD_S:
            await self._reread(silent.model)

    def _list_used(self) -> list[WorkerEntry]:
        return [one for listed in self._listed.values() for one in listed.workers if one.is_active]


def _bears(worker: WorkerEntry, ask: Ask) -> bool:
    """Whether its bond covers what it would earn: the chain refuses the settlement otherwise."""
    stage = PathStage(worker.worker, worker.start, worker.end, worker.prefill_price, worker.decode_price)
    return compute_stage_price(stage, len(ask.prompt), ask.tokens_max) <= worker.gross_max


def _count_positions(ask: Ask) -> int:
    return compute_positions(len(ask.prompt), ask.tokens_max)


def _is_unchanged(entry: WorkerEntry, stage: PathStage) -> bool:
    return (entry.start, entry.end) == (stage.start, stage.end)


def _find_gaps(stays: Sequence[WorkerEntry], layers: int) -> list[tuple[int, int]]:
    """Ranges of layers that nobody of `stays` holds."""
    gaps, at = [], 0
    for one in sorted(stays, key=lambda stay: stay.start):
        if at < one.start:
            gaps.append((at, one.start))
        at = max(at, one.end)
    return [*gaps, (at, layers)] if at < layers else gaps
