"""The gateway before answers that cost nothing: what HTTP and accounting take of the processor. A child process.

The whole gateway runs (text from tokens, stop strings, JSON, metrics, SQLite, HTTP); only the network behind it is a
timer, whose own cost is in the figure.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from benchmarks.inference.lines import serve
from inference.errors import ModelError
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.serving.client import PromptScored
from node.client.answer import Answer, Ask, Generated, Move, OrderedPart, RequestOutcome, Resolution
from node.gateway.catalog import ModelPrice, OfferedModel
from node.gateway.service import run_gateway
from node.gateway.settings import GatewaySettings
from proto_specs.order_rules import make_bounds
from proto_specs.types.request import PathStage, compute_stage_price
from proto_specs.types.wire import FinishReason

TICK_S = 0.02
START_S = 30.0
MAX_PRICE = 200_000


class TimedAnswer:
    """A token a tick: those of a fixed text, again and again."""

    def __init__(self, ask: Ask, request: bytes, tokens: tuple[int, ...], layers: int) -> None:
        self.request = request
        self.session = bytes(32)
        self.moves: list[Move] = []
        self.parts: list[OrderedPart] = []
        self.path = (PathStage(b"\x01" * 32, 0, layers, 1, 1),)
        self._ask = ask
        self._tokens = tokens
        self._sent = 0

    @property
    def cost_nmyl(self) -> int:
        """See Answer."""
        return compute_stage_price(self.path[0], len(self._ask.prompt), self._sent)

    @property
    def cost_max_nmyl(self) -> int:
        """See Answer."""
        return compute_stage_price(self.path[0], len(self._ask.prompt), self._ask.tokens_max)

    async def __aiter__(self) -> AsyncIterator[Generated | PromptScored]:
        for at in range(self._ask.tokens_max):
            await trio.sleep(TICK_S)
            self._sent = at + 1
            finish = FinishReason.LENGTH if self._sent == self._ask.tokens_max else FinishReason.NONE
            yield Generated(self._tokens[at % len(self._tokens)], finish, 0.0)


class TimedInference:
    """An `Inference` of timed answers."""

    def __init__(self, tokens: tuple[int, ...], layers: int) -> None:
        self._tokens = tokens
        self._layers = layers
        self._count = 0

    @asynccontextmanager
    async def ask(self, ask: Ask) -> AsyncIterator[Answer]:
        """See Inference."""
        await trio.lowlevel.checkpoint()
        self._count += 1
        yield TimedAnswer(ask, self._count.to_bytes(32, "big"), self._tokens, self._layers)

    async def get_outcome(self, request: bytes, session: bytes | None = None) -> RequestOutcome:
        """See Inference."""
        await trio.lowlevel.checkpoint()
        return RequestOutcome(request, Resolution.PENDING, 0, 0, 0, ())


class OneModel:
    """A catalog of one."""

    def __init__(self, model: OfferedModel) -> None:
        self._model = model

    async def list_models(self) -> tuple[OfferedModel, ...]:
        """See Catalog."""
        await trio.lowlevel.checkpoint()
        return (self._model,)


def open_gateway(models: str, model: str, text: str) -> int:
    """Serve in a thread of this process, for as long as it lives; the port."""
    store, model_id = ShardStore(Path(models)), bytes.fromhex(model)
    manifest = store.load_manifest(model_id)
    tokenizer = Tokenizer.load(store, model_id)
    offered = OfferedModel(model_id, manifest.name, make_bounds(manifest), tokenizer, ModelPrice(1, 1))
    inference = TimedInference(tuple(tokenizer.encode(text)), manifest.architecture.layers)
    settings = GatewaySettings(Path(tempfile.mkdtemp(prefix="myelin-bench-")), MAX_PRICE, port=0, is_open=True)

    async def probe() -> None:
        await trio.lowlevel.checkpoint()

    started: queue.SimpleQueue[int] = queue.SimpleQueue()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            started.put(await nursery.start(run_gateway, settings, inference, OneModel(offered), probe, None))

    threading.Thread(target=trio.run, args=(run,), daemon=True).start()
    return started.get(timeout=START_S)


def read_cpu() -> float:
    """Processor seconds of this process so far."""
    return time.process_time()


def main() -> None:
    """Serve a parent."""
    serve((open_gateway, read_cpu), (ModelError,))


if __name__ == "__main__":
    main()
