"""The real model, imported once per machine, and a chain that is a few dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from inference.model.fetch import MODEL_NAME, cache_dir, fetch_smollm2
from inference.model.importing import import_gguf
from inference.model.store import ShardStore
from node.client.chain_view import SessionEntry, WorkerEntry
from proto_specs.types.manifest import Manifest, compute_model_id


@dataclass(frozen=True)
class Model:
    """An imported model."""

    store: ShardStore
    model_id: bytes
    manifest: Manifest


@pytest.fixture(scope="session")
def model() -> Model:
    """SmolLM2-135M-Instruct in the shard store of the machine's cache."""
    path = fetch_smollm2(cache_dir(), lambda _done, _total: None)
    root = cache_dir() / "models"
    manifest = import_gguf(path, root, lambda _done, _total: None, name=MODEL_NAME)
    return Model(ShardStore(root), compute_model_id(manifest), manifest)


@dataclass
class DictChain:
    """A `ChainView` over dictionaries."""

    genesis: bytes
    sessions: dict[bytes, SessionEntry] = field(default_factory=dict)
    workers: dict[bytes, WorkerEntry] = field(default_factory=dict)
    manifests: dict[bytes, Manifest] = field(default_factory=dict)
    used: set[tuple[bytes, int]] = field(default_factory=set)

    async def get_session(self, session: bytes) -> SessionEntry | None:
        return self.sessions.get(session)

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        return (session, sequence) in self.used

    async def get_worker(self, worker: bytes) -> WorkerEntry | None:
        return self.workers.get(worker)

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        return tuple(one for one in self.workers.values() if one.model == model)

    async def get_manifest(self, model: bytes) -> Manifest | None:
        return self.manifests.get(model)
