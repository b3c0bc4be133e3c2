"""The real model, fetched and imported once per machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.model.fetch import SMOLLM2, cache_dir, fetch_sample
from inference.model.importing import import_model
from inference.model.store import ShardStore
from proto_specs.types.manifest import Manifest, compute_model_id


@dataclass(frozen=True)
class Model:
    """An imported model, and the file it is from."""

    gguf: Path
    store: ShardStore
    model_id: bytes
    manifest: Manifest


@pytest.fixture(scope="session")
def model() -> Model:
    """SmolLM2-135M-Instruct in the shard store of the machine's cache."""
    path = fetch_sample(SMOLLM2, cache_dir(), lambda _done, _total: None)
    root = cache_dir() / "models"
    manifest = import_model(path, root, lambda _done, _total: None, name=SMOLLM2.model)
    return Model(path, ShardStore(root), compute_model_id(manifest), manifest)
