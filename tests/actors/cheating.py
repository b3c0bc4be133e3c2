"""A loader that serves a wrong shard, to show that a worker with it is caught."""

from __future__ import annotations

from pathlib import Path

from inference.engine.device import CPU, Device
from inference.engine.ort import ShardSession
from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore
from node.worker.service import Loader
from tests.actors.doctor import Cheat, write_doctored


def load_doctored(directory: Path, workspace: Path, shard: ShardRange, cheat: Cheat, threads: int = 1) -> ShardSession:
    """A session of the shard over doctored copies of its weights, written to the new directory `workspace`."""
    manifest = write_doctored(directory, workspace, shard, cheat)
    return ShardSession(ShardRange(manifest, shard.start, shard.end), workspace, threads)


def make_cheating_loader(cheat: Cheat, workspace: Path) -> Loader:
    """A loader in place of `load_verified`; doctored weights are written under `workspace`."""

    def load(store: ShardStore, model: bytes, start: int, end: int, threads: int, device: Device) -> ShardSession:
        assert device == CPU, "doctored weights are computed on CPUs"
        shard = ShardRange(store.load_manifest(model), start, end)
        return load_doctored(store.get_directory(model), workspace / cheat.value, shard, cheat, threads)

    return load
