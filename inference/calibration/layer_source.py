"""Sessions of one layer at a time, with the published weights or others, that are gone when the next layer comes."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from inference.calibration.substitutes import Weights, write_layer
from inference.engine.ort import ShardSession
from inference.engine.way import Way
from inference.model.graph.shard import ShardRange
from proto_specs.types.manifest import Manifest


class LayerSource:
    """Loads single layers of the model whose units lie in `directory`. A context manager: other weights are large."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        # No ranges: what rows beyond them do to a check is one of the things that are measured.
        self.manifest = replace(manifest, ranges=(), units=manifest.units)
        self.directory = directory
        self._workspace = Path(tempfile.mkdtemp(prefix="myelin-calibrate-"))
        self._layer = -1
        self._written: dict[Weights, tuple[Manifest, Path]] = {}
        self._sessions: dict[tuple[Weights, Way, int], ShardSession] = {}

    def __enter__(self) -> LayerSource:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._forget()
        shutil.rmtree(self._workspace, ignore_errors=True)

    def load(
        self, layer: int, weights: Weights = Weights.PUBLISHED, way: Way = Way.USUAL, threads: int = 1
    ) -> ShardSession:
        """The layer's session; those of another layer are given up. Raises EngineError, StoreError, OSError."""
        if layer != self._layer:
            self._forget()
            self._layer = layer
        key = weights, way, threads
        if key not in self._sessions:
            manifest, directory = self._find(weights)
            shard = ShardRange(manifest, layer, layer + 1)
            self._sessions[key] = ShardSession(shard, directory, threads, way=way)
        return self._sessions[key]

    def _find(self, weights: Weights) -> tuple[Manifest, Path]:
        if weights is Weights.PUBLISHED:
            return self.manifest, self.directory
        if weights not in self._written:
            target = self._workspace / f"{self._layer}-{weights.name}"
            self._written[weights] = write_layer(self.directory, target, self.manifest, self._layer, weights), target
        return self._written[weights]

    def _forget(self) -> None:
        self._sessions.clear()
        for _, directory in self._written.values():
            shutil.rmtree(directory, ignore_errors=True)
        self._written.clear()
