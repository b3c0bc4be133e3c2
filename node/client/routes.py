"""Which workers a request goes to: what the chain lists, kept from block to block, and what was seen of each.

A request waits for no RPC: the list of a model in use is read again in the background whenever the height changes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import trio

from inference.routing import LayerOffer, NoPathError, choose_path
from node.client.answer import Ask
from node.client.chain_view import WorkerEntry
from node.client.errors import InferenceRefused, WorkersAway
from node.client.transport import StagePeer
from node.client.worker_memory import WorkerMemory
from proto_specs.errors import MyelinError
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import PathStage, compute_stage_price

POLL_S = 0.5
UNUSED_S = 300.0
"""A model that nobody asks for so long is no longer read ahead."""

logger = logging.getLogger("myelin.client")


class WorkerSource(Protocol):
    """The part of the chain that routes need. Every method raises ChainUnreachable."""

    async def get_height(self) -> int:
        """The last block's height."""

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        """All workers registered for a model."""

    async def get_manifest(self, model: bytes) -> Manifest | None:
        """The manifest of a registered model; None when there is none."""


@dataclass(frozen=True, slots=True)
class Route:
    """The workers of a path, in its order."""

    manifest: Manifest
    workers: tuple[WorkerEntry, ...]

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
    used_s: float
    manifest: Manifest
    workers: tuple[WorkerEntry, ...]


class Routes:
    """Chooses paths. `run` keeps what it knows of the chain fresh."""

    def __init__(self, chain: WorkerSource, memory: WorkerMemory) -> None:
        self.memory = memory
        self._chain = chain
        self._listed: dict[bytes, _Listed] = {}

    async def run(self) -> None:
        """Read lists of workers again at every new height, until cancelled."""
        while True:
            await trio.sleep(POLL_S)
            try:
                if self._listed:
                    await self._refresh(await self._chain.get_height())
            except MyelinError as error:
                logger.warning("workers not read again: %s", error.message)

    async def choose(self, ask: Ask, excluded: Collection[bytes]) -> Route:
        """The best path for a request, without the excluded workers.

        Workers that failed lately are taken only where nobody else serves. Raises InferenceRefused, NoPathError,
        ChainUnreachable.
        """
        listed = await self._get(ask.model)
        layers, now_s = listed.manifest.architecture.layers, trio.current_time()
        workers = {one.worker: one for one in listed.workers if one.is_active and _bears(one, ask)}
        offers = [self._make_offer(one, now_s) for one in workers.values()]
        avoided = {*excluded, *(one for one in workers if self.memory.is_avoided(one, now_s))}
        try:
            path = choose_path(offers, layers, ask.max_price, avoided)
        except NoPathError:
            path = choose_path(offers, layers, ask.max_price, excluded)
        return Route(listed.manifest, tuple(workers[one.worker] for one in path))

    def require_workers(self) -> None:
        """Raises WorkersAway when a model in use has no path but over workers that failed lately."""
        now_s = trio.current_time()
        for listed in self._listed.values():
            active = [one for one in listed.workers if one.is_active]
            offers = [self._make_offer(one, now_s) for one in active]
            avoided = [one.worker for one in active if self.memory.is_avoided(one.worker, now_s)]
            try:
                dearest = max((one.price for one in offers), default=0)
                choose_path(offers, listed.manifest.architecture.layers, dearest, avoided)
            except NoPathError:
                if avoided:  # else nobody is registered, which the chain tells
                    raise WorkersAway(avoided) from None

    def forget(self, model: bytes) -> None:
        """What is known of a model's workers proved wrong: read it again before the next path."""
        self._listed.pop(model, None)

    async def _get(self, model: bytes) -> _Listed:
        listed = self._listed.get(model)
        if listed is None:
            height = await self._chain.get_height()
            manifest = await self._chain.get_manifest(model)
            if manifest is None:
                raise InferenceRefused(f"model {model.hex()} is not registered; see `myelin query models`")
            workers = await self._chain.list_workers(model)
            listed = self._listed[model] = _Listed(height, trio.current_time(), manifest, workers)
        listed.used_s = trio.current_time()
        return listed

    async def _refresh(self, height: int) -> None:
        now_s = trio.current_time()
        for model, listed in list(self._listed.items()):
            if now_s - listed.used_s > UNUSED_S:
                del self._listed[model]
            elif listed.height != height:
                listed.workers = await self._chain.list_workers(model)
                listed.height = height

    def _make_offer(self, worker: WorkerEntry, now_s: float) -> LayerOffer:
        rank = self.memory.get_rank(worker.worker, now_s)
        return LayerOffer(worker.worker, worker.start, worker.end, worker.prefill_price, worker.decode_price, rank)


def _bears(worker: WorkerEntry, ask: Ask) -> bool:
    """Whether its bond covers what it would earn: the chain refuses the settlement otherwise."""
    stage = PathStage(worker.worker, worker.start, worker.end, worker.prefill_price, worker.decode_price)
    return compute_stage_price(stage, len(ask.prompt), ask.tokens_max) <= worker.gross_max
