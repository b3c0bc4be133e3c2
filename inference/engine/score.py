"""How likely a model finds a text: the log-probability of each of its tokens after those before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.engine.engine import load_session
from inference.engine.rows import Rows, Tokens
from inference.errors import EngineError
from inference.model.store import ShardStore

ROWS_AT_ONCE = 32
"""Logits are [rows, vocabulary]: so many rows of them are held at a time."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TextScore:
    """Natural logarithms of the probabilities [n - 1] of tokens 1.. of a text of n, each given all before it."""

    log_probabilities: NDArray[np.float64]

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-probability."""
        return float(np.exp(-self.log_probabilities.mean()))


def score_tokens(
    store: ShardStore,
    model_id: bytes,
    tokens: Tokens,
    progress: Progress,
    layers_at_once: int | None = None,
    threads: int = 1,
) -> TextScore:
    """Score [n] tokens, n >= 2, holding `layers_at_once` layers at a time (all: None). Progress counts layers x rows.

    Raises EngineError for a text beyond the model's context, StoreError when units are missing or damaged.
    """
    architecture = store.load_manifest(model_id).architecture
    count = len(tokens)
    if not 2 <= count <= architecture.context_max:
        raise EngineError(f"a text of {count} tokens cannot be scored: take 2 to {architecture.context_max}")
    rows: Rows = tokens
    scores = np.empty(count - 1)
    step = layers_at_once or architecture.layers
    total = architecture.layers * count
    for start in range(0, architecture.layers, step):
        end = min(start + step, architecture.layers)
        session = load_session(store, model_id, start, end, threads)
        kv = session.open_kv(count)
        outputs = []
        for first in range(0, count, ROWS_AT_ONCE):
            piece = rows[first : first + ROWS_AT_ONCE]
            output = session.run(kv, piece, tuple(range(len(piece))) if session.shard.is_last else ())
            outputs.append(output.hidden)
            if output.logits is not None:
                following = tokens[first + 1 : first + 1 + len(piece)]
                scores[first : first + len(following)] = compute_log_probabilities(output.logits, following)
            progress(start * count + (end - start) * (first + len(piece)), total)
        rows = np.concatenate(outputs)
    return TextScore(scores)


def compute_log_probabilities(logits: NDArray[np.float32], tokens: Tokens) -> NDArray[np.float64]:
    """log softmax in fp64 of the first rows of [n, V] logits at [m <= n] tokens."""
    values = logits[: len(tokens)].astype(np.float64)
    highest = values.max(axis=1, keepdims=True)
    totals = highest[:, 0] + np.log(np.exp(values - highest).sum(axis=1))
    scores: NDArray[np.float64] = values[np.arange(len(tokens)), tokens] - totals
    return scores
