"""The models that the gateway offers: stored here, known on chain, with their tokenizers, bounds and prices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from consensus.runtime.inference import queries
from inference.errors import ModelError
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.routing import LayerOffer, NoPathError, Prefer, choose_path
from node.client.chain_view import ChainUnreachable, WorkerEntry
from node.client.rpc_chain import RpcChain
from proto_specs.order_rules import ModelBounds, make_bounds

PRICES_KEPT_S = 10.0
TYPICAL_TOKENS = 256
"""Of the prompt, and as many new ones: what the cheapest path is found for."""


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What the cheapest path takes now, in nmyl per prompt token and per generated token."""

    prompt_nmyl: int
    generated_nmyl: int


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that can be asked. `price` is None, and `trouble` says why, while nobody serves it."""

    model: bytes
    name: str
    bounds: ModelBounds
    tokenizer: Tokenizer
    price: ModelPrice | None
    trouble: str = ""


class Catalog(Protocol):
    """Where the models come from."""

    async def list_models(self) -> tuple[OfferedModel, ...]:
        """All of them. Raises ChainUnreachable."""


def find_offered(models: Iterable[OfferedModel], name: str) -> OfferedModel | None:
    """A model by its name or its id (hex, with or without 0x)."""
    wanted = name.lower().removeprefix("0x")
    for one in models:
        if wanted in (one.name.lower(), one.model.hex()):
            return one
    return None


class StoredCatalog:
    """The models of a shard store that are registered on chain. Prices are asked again every PRICES_KEPT_S.

    Tokenizers are loaded once, in a thread.
    """

    def __init__(self, store: ShardStore, chain: RpcChain, max_price: int) -> None:
        self._store = store
        self._chain = chain
        self._max_price = max_price
        self._tokenizers: dict[bytes, Tokenizer] = {}
        self._listed: tuple[OfferedModel, ...] = ()
        self._listed_s = -PRICES_KEPT_S
        self._lock = trio.Lock()

    async def list_models(self) -> tuple[OfferedModel, ...]:
        """All of them; what was known last while the chain is out of reach. Raises ChainUnreachable at first."""
        is_fresh = trio.current_time() < self._listed_s + PRICES_KEPT_S
        if is_fresh or (self._listed and self._lock.locked()):  # nobody waits for another's question
            return self._listed
        async with self._lock:
            if trio.current_time() >= self._listed_s + PRICES_KEPT_S:
                try:
                    self._listed = await self._read()
                except ChainUnreachable:
                    if not self._listed:
                        raise
                self._listed_s = trio.current_time()
        return self._listed

    async def _read(self) -> tuple[OfferedModel, ...]:
        registered = {model for model, _ in await self._chain.read(queries.list_models)}
        found = []
        for model in self._store.list_models():
            if model not in registered:
                continue
            try:
                manifest = self._store.load_manifest(model)
                tokenizer = await self._load_tokenizer(model)
            except ModelError:  # one that cannot be read is no reason not to offer another
                continue
            workers = await self._chain.list_workers(model)
            price, trouble = _find_price(workers, manifest.architecture.layers, self._max_price)
            found.append(OfferedModel(model, manifest.name, make_bounds(manifest), tokenizer, price, trouble))
        return tuple(found)

    async def _load_tokenizer(self, model: bytes) -> Tokenizer:
        known = self._tokenizers.get(model)
        if known is None:
            known = await trio.to_thread.run_sync(Tokenizer.load, self._store, model)
            self._tokenizers[model] = known
        return known


def _find_price(workers: Iterable[WorkerEntry], layers: int, max_price: int) -> tuple[ModelPrice | None, str]:
    active = (one for one in workers if one.is_active)
    offers = [LayerOffer(one.worker, one.start, one.end, one.prefill_price, one.decode_price) for one in active]
    try:
        path = choose_path(
            offers,
            layers,
            prompt_tokens=TYPICAL_TOKENS,
            new_tokens=TYPICAL_TOKENS,
            max_price=max_price,
            prefer=Prefer.CHEAP,
        )
    except NoPathError as error:
        return None, error.message
    prompt = sum((one.end - one.start) * one.prefill_price for one in path)
    return ModelPrice(prompt, sum((one.end - one.start) * one.decode_price for one in path)), ""
