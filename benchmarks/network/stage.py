"""One worker of a path as a child process: the product's worker, on a chain that takes no time."""

from __future__ import annotations

import queue
import resource
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import trio

from benchmarks.inference.lines import serve
from benchmarks.network.chain import GENESIS, PaidAccount, ToldChain, make_entry, make_worker_key
from inference.decoding.source import ChooserSource
from inference.drafting.model_drafter import DraftModel
from inference.engine.engine import StageEngine, load_session
from inference.errors import ModelError
from inference.model.store import ShardStore
from node.p2p.circuits import open_roaming_host
from node.worker.archive import DiskRequestArchive
from node.worker.compute import ComputeLoop
from node.worker.drafting import NO_DRAFTS, DraftSource
from node.worker.request_journal import RequestJournal
from node.worker.server import WorkerParts, WorkerServer

START_S = 60.0
SOME_TOKEN = 300
LISTEN = "/ip4/127.0.0.1/tcp/0"

_chains: list[ToldChain] = []


class EmptyLayers:
    """Layers that compute nothing, in place of a shard's: what is left is what a stage costs beside them."""

    def __init__(self, vocab: int | None) -> None:
        self._vocab = vocab

    def call(self, _memory: Any, _slot: int, hidden: Any, _last: Any, asked: Any, _places: Any) -> tuple[Any, Any]:
        """The rows as they came, and on a last shard logits that choose one token."""
        if self._vocab is None:
            return hidden.copy(), None
        logits = np.zeros((len(asked), self._vocab), np.float32)
        logits[:, SOME_TOKEN] = 1.0
        return hidden.copy(), logits


def start(
    models: str,
    model: str,
    number: int,
    layers: list[int],
    positions: int,
    threads: int = 1,
    is_empty: bool = False,
    drafts: str = "none",
) -> dict[str, Any]:
    """Load a shard and serve it in a thread of this process, for as long as it lives; where it is reached.

    `is_empty`: with layers that compute nothing. `drafts`: "none"; "lookup", as a worker does by itself; or "model",
    with the model itself as its own draft model besides.
    """
    started: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    store, model_id, (first, end) = ShardStore(Path(models)), bytes.fromhex(model), layers
    manifest = store.load_manifest(model_id)
    session = load_session(store, model_id, first, end, threads, verify=False)
    if is_empty:
        vocab = session.shard.decoder.vocab if session.shard.is_last else None
        session._pieces = [EmptyLayers(vocab)]  # type: ignore[list-item]  # noqa: SLF001  # nobody else needs such layers
    engine = StageEngine(session, positions)
    source = NO_DRAFTS if drafts == "none" else DraftSource()
    if drafts == "model" and not first:
        whole = load_session(store, model_id, 0, manifest.architecture.layers, threads, verify=False)
        source = DraftSource(model=DraftModel(StageEngine(whole, positions), manifest))
    chain = ToldChain(GENESIS, manifest, model_id)
    _chains.append(chain)

    async def run() -> None:
        base = Path(tempfile.mkdtemp(prefix="myelin-bench-"))
        key = make_worker_key(number)
        with closing(RequestJournal(base / "requests.taken", 0)) as journal:
            async with open_roaming_host(key.seed, [LISTEN]) as (host, addresses), trio.open_nursery() as nursery:
                entry = make_entry(model_id, number, (first, end), host.peer_id, addresses)
                chain.workers[entry.worker] = entry
                compute = ComputeLoop(engine, ChooserSource(store, model_id, manifest))
                nursery.start_soon(compute.run)
                archive = DiskRequestArchive(base, PaidAccount())  # type: ignore[arg-type]
                WorkerServer(
                    host, nursery, WorkerParts(entry, manifest, key, chain, compute, archive, journal, drafts=source)
                )
                started.put({"peer_id": host.peer_id, "addresses": addresses, "layers": layers})
                await trio.sleep_forever()

    threading.Thread(target=trio.run, args=(run,), daemon=True).start()
    return started.get(timeout=START_S)


def tell_path(path: list[dict[str, Any]]) -> None:
    """The chain's workers: for each stage of the path, where it is reached."""
    (chain,) = _chains
    for number, one in enumerate(path):
        layers = (one["layers"][0], one["layers"][1])
        entry = make_entry(chain.model, number, layers, one["peer_id"], one["addresses"])
        chain.workers[entry.worker] = entry


def read_cpu() -> dict[str, float]:
    """Processor seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"user": used.ru_utime, "system": used.ru_stime, "switches": used.ru_nvcsw}


def main() -> None:
    """Serve a parent."""
    serve((start, tell_path, read_cpu), (ModelError,))


if __name__ == "__main__":
    main()
