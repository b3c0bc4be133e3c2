"""The real SmolLM2-135M-Instruct, whole and in three shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.decoding.draw import sample
from inference.engine.engine import load_session
from inference.engine.ort import ShardSession
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from proto_specs.types.manifest import Manifest, compute_model_id
from proto_specs.types.sampling import SamplingParams
from tests.integration.conftest import Model

CUTS = ((0, 10), (10, 20), (20, 30))
GREEDY = SamplingParams(0, 0, 1000, 0)


@dataclass(frozen=True)
class RealModel:
    """The stored model and its tokenizer."""

    gguf: Path
    store: ShardStore
    manifest: Manifest
    tokenizer: Tokenizer

    @property
    def model_id(self) -> bytes:
        return compute_model_id(self.manifest)

    @property
    def directory(self) -> Path:
        return self.store.get_directory(self.model_id)

    def ask(self, question: str) -> NDArray[np.uint32]:
        return np.array(self.tokenizer.encode_chat([{"role": "user", "content": question}]), np.uint32)


@pytest.fixture(scope="session")
def real(model: Model) -> RealModel:
    return RealModel(model.gguf, model.store, model.manifest, Tokenizer.load(model.store, model.model_id))


@pytest.fixture(scope="session")
def whole(real: RealModel) -> ShardSession:
    return load_session(real.store, real.model_id, 0, 30)


@pytest.fixture(scope="session")
def shards(real: RealModel) -> list[ShardSession]:
    return [load_session(real.store, real.model_id, start, end) for start, end in CUTS]


def generate(
    sessions: Sequence[ShardSession], prompt: NDArray[np.uint32], tokens_max: int, params: SamplingParams = GREEDY
) -> list[int]:
    """Tokens of a pipeline of sessions, up to and including an end of sequence of SmolLM2 (0 or 2)."""
    caches = [session.open_kv(len(prompt) + tokens_max) for session in sessions]
    tokens: list[int] = []
    feed = prompt
    while len(tokens) < tokens_max and not (tokens and tokens[-1] in (0, 2)):
        rows = feed
        for session, kv in zip(sessions, caches, strict=True):
            output = session.run(kv, rows, (len(feed) - 1,) if session.shard.is_last else ())
            rows = output.hidden
        assert output.logits is not None
        tokens.append(sample(output.logits[0], params, caches[0].length - 1))
        feed = np.array([tokens[-1]], np.uint32)
    return tokens
