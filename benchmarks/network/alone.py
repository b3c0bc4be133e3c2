"""One engine's own times, in a child process that does nothing else: what a plan needs of a machine."""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.inference.lines import serve
from inference.engine.engine import ForwardCall, StageEngine, load_session
from inference.engine.rows import Rows
from inference.errors import ModelError
from inference.model.store import ShardStore

_ONE = b"one"

_shards: list[StageEngine] = []


def load(models: str, model: str, cuts: list[int], positions: int) -> None:
    """Load the layers between neighbours of `cuts` as a shard each, on one thread."""
    store = ShardStore(Path(models))
    for start, end in itertools.pairwise(cuts):
        session = load_session(store, bytes.fromhex(model), start, end, 1, verify=False)
        _shards.append(StageEngine(session, positions))


def time_decode(tokens: int) -> list[float]:
    """Seconds of a row at almost no context on each shard, the mean of so many, all shards by turns.

    The last one's are with its logits.
    """
    taken_s: list[list[float]] = [[] for _ in _shards]
    for shard in _shards:
        shard.open(_ONE, tokens)
    for position in range(tokens):
        for number, shard in enumerate(_shards):
            asked = (0,) if shard.shard.is_last else ()
            taken_s[number].append(_time_call(shard, position, 1, asked))
    for shard in _shards:
        shard.close(_ONE)
    return [statistics.fmean(one) for one in taken_s]


def time_chunk(rows: int) -> float:
    """Seconds of a call of so many first rows of a prompt on the first shard."""
    (shard, *_) = _shards
    shard.open(_ONE, rows)
    seconds = _time_call(shard, 0, rows, ())
    shard.close(_ONE)
    return seconds


def _time_call(shard: StageEngine, start: int, count: int, asked: tuple[int, ...]) -> float:
    draws = np.random.default_rng(start)
    values: Rows
    if shard.shard.is_first:
        values = draws.integers(0, shard.shard.architecture.vocab, count).astype(np.uint32)
    else:
        values = draws.standard_normal((count, shard.shard.architecture.hidden)).astype(np.float32)
    started_s = time.perf_counter()
    (answer,) = shard.forward_batch([ForwardCall(_ONE, start, values, asked)])
    seconds = time.perf_counter() - started_s
    if isinstance(answer, ModelError):
        raise answer
    return seconds


def main() -> None:
    """Serve a parent."""
    serve((load, time_decode, time_chunk), (ModelError,))


if __name__ == "__main__":
    main()
