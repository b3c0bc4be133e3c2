"""Gemma 3 270M, a real file of another family with tensors of five types: text as llama.cpp has it, shards as one."""

from __future__ import annotations

import numpy as np
import pytest

from inference.engine.engine import load_session
from inference.engine.golden import check_golden
from inference.engine.ort import ShardSession
from inference.model.fetch import GEMMA3, cache_dir, fetch_sample
from inference.model.importing import import_model
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from proto_specs.types.manifest import compute_model_id
from tests.integration.inference.conftest import generate

# Ids and twelve greedy tokens of llama-cpp-python 0.3.36 on the same file.
GOLDENS = [
    (
        "The capital of France is",
        [2, 818, 5279, 529, 7001, 563],
        [506, 5279, 529, 506, 2891, 529, 7001, 236761, 1030, 563, 506, 7488],
    ),
    (
        "Water boils at",
        [2, 17390, 104264, 657],
        [236743, 236770, 236771, 236771, 10674, 57356, 236761, 108, 17390, 104264, 657, 236743],
    ),
    (
        "def fibonacci(n):\n",
        [2, 2063, 10779, 78113, 236769, 236749, 1473, 107],
        [140, 584, 538, 1251, 236743, 236771, 236787, 107, 144, 2060, 236743, 236771],
    ),
]


@pytest.fixture(scope="module")
def gemma() -> tuple[ShardStore, bytes]:
    path = fetch_sample(GEMMA3, cache_dir(), lambda _done, _total: None)
    store = ShardStore(cache_dir() / "models")
    manifest = import_model(path, store.root, lambda _done, _total: None, name=GEMMA3.model)
    return store, compute_model_id(manifest)


@pytest.fixture(scope="module")
def shards(gemma: tuple[ShardStore, bytes]) -> list[ShardSession]:
    return [load_session(*gemma, start, end, 1, False) for start, end in ((0, 5), (5, 11), (11, 18))]


def test_it_reads_and_writes_as_llama_cpp(gemma: tuple[ShardStore, bytes], shards: list[ShardSession]) -> None:
    tokenizer = Tokenizer.load(*gemma)
    for text, ids, answer in GOLDENS:
        assert tokenizer.encode(text) == ids
        assert generate(shards, np.array(ids, np.uint32), len(answer)) == answer


def test_this_machine_computes_its_golden_windows(gemma: tuple[ShardStore, bytes], shards: list[ShardSession]) -> None:
    for one in shards:
        distance = check_golden(one, *gemma)
        assert distance is not None
        assert distance <= one.shard.manifest.profile.golden_ppb


def test_a_sequence_longer_than_its_window_is_the_same_row_by_row(shards: list[ShardSession]) -> None:
    """Local layers see 512 positions: beyond them decode must forget what a prefill forgets."""
    session = shards[0]
    tokens = np.random.default_rng(3).integers(5, 50_000, 530).astype(np.uint32)
    whole = session.run(session.open_kv(530), tokens).hidden
    kv = session.open_kv(530)
    session.run(kv, tokens[:505])
    single = np.concatenate([session.run(kv, tokens[at : at + 1]).hidden for at in range(505, 530)])
    assert np.abs(single - whole[505:]).max() <= 1e-5 * np.abs(whole).max()
