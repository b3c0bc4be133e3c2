"""A worker that serves a wrong shard, to show that it is caught. Nothing but the demo and tests starts one."""

from __future__ import annotations

import enum
from pathlib import Path

from inference.engine.ort import ShardSession
from inference.model.graph import ShardRange
from inference.model.store import ShardStore
from node.worker.service import Loader
from tests.actors.doctor import Cheat, write_doctored


class DemoCheat(enum.Enum):
    """What the dishonest worker does: 4-bit weights, one layer left out, or 1 % noise on the weights."""

    QUANTISE = "quantise"
    SKIP = "skip"
    PERTURB = "perturb"


def make_cheating_loader(cheat: DemoCheat, workspace: Path) -> Loader:
    """A loader in place of `load_verified`; doctored weights are written under `workspace`."""

    def load(store: ShardStore, model: bytes, start: int, end: int, threads: int) -> ShardSession:
        architecture = store.load_manifest(model).architecture
        directory = store.get_directory(model)
        if cheat is DemoCheat.SKIP:
            shard = ShardRange(architecture, start, end, skip_layer=(start + end) // 2)
            return ShardSession(shard, directory, threads)
        doctored = workspace / f"doctored-{cheat.value}"
        if not doctored.exists():
            write_doctored(directory, doctored, architecture, start, end, Cheat(cheat.value))
        return ShardSession(ShardRange(architecture, start, end), doctored, threads)

    return load
