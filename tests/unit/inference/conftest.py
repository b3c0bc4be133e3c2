"""A tiny stored model, imported once: the fixture of every unit test that needs weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from inference.engine.ort import ShardSession
from inference.model.graph.shard import ShardRange
from inference.model.importing import import_model
from inference.model.store import ShardStore
from proto_specs.types.manifest import Manifest, compute_model_id
from tests.unit.inference import tiny


@dataclass(frozen=True)
class TinyModel:
    """The stored model, and what it was made of."""

    weights: tiny.Weights
    gguf: Path
    store: ShardStore
    manifest: Manifest

    @property
    def model_id(self) -> bytes:
        return compute_model_id(self.manifest)

    @property
    def directory(self) -> Path:
        return self.store.get_directory(self.model_id)

    def load(self, start: int, end: int, decode_rows: int = 1) -> ShardSession:
        profile = replace(self.manifest.profile, decode_rows=decode_rows)
        return ShardSession(ShardRange(replace(self.manifest, profile=profile), start, end), self.directory)

    def cut(self, start: int, end: int) -> ShardRange:
        return ShardRange(self.manifest, start, end)


@pytest.fixture(scope="session", params=["tied", "untied"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A model of three layers, with tied and with its own head."""
    root = tmp_path_factory.mktemp("tiny")
    weights = tiny.make_weights(tied=request.param == "tied")
    path = tiny.write_gguf(root / "tiny.gguf", weights)
    manifest = import_model(path, root / "models", lambda done, total: None, wire_dtype="fp32")
    return TinyModel(weights, path, ShardStore(root / "models"), manifest)
