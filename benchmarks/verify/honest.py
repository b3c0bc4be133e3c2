"""Honest windows of a real model, counted: every shard from a drawn layer on, by machines that sum in other orders.

A *measured window* is one comparison that a verifier would make: a text, the layer its shard begins with, the layer it
ends with, the machine that claims the rows, and positions [a, b). The verifier prefills in one call; the claim goes
through the wire's rounding. Windows of one text, shard and machine share no position. Texts, first layers and cuts into
windows are drawn from the number of the text alone. Each text is a file in the work directory: a run goes on where it
was cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.verify.corpus import draw_sample
from benchmarks.verify.torch_side import TorchLayers
from inference.calibration.claimants import HONEST, REFERENCE, Claimant
from inference.calibration.distances import Recomputed, send
from inference.calibration.layer_runs import get_embedded, run_layer
from inference.calibration.substitutes import Weights, write_layer
from inference.engine.ort import ShardSession
from inference.engine.rows import Hidden, Rows
from inference.engine.verify import JUDGED_POSITIONS_MIN
from inference.engine.way import Way
from inference.model.graph.shard import ShardRange
from inference.model.tokenizer.tokenizer import Tokenizer
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.manifest import Manifest, WireDtype

POSITIONS = 128
LENGTHS = (1, 2, 4, 8, 16, 32)
MACHINES = (
    "single rows",
    "single rows, fp32 form",
    "single rows, plain attention",
    "fp32 form",
    "plain attention",
    "batches",
)
TORCH = "torch"
NAMES = (*MACHINES, TORCH)
COLUMNS = ("start", "end", "machine", "first", "length", "distance")


@dataclass(frozen=True)
class Model:
    """A stored model, and the file that another engine reads."""

    manifest: Manifest
    directory: Path
    tokenizer: Tokenizer
    gguf: Path


class Machines:
    """Every layer of the model in every form that the machines need, loaded once."""

    def __init__(self, model: Model, workspace: Path) -> None:
        self.model = model
        self._workspace = workspace
        self._sessions: dict[tuple[int, Weights, Way], ShardSession] = {}
        self._claimants = [one for one in HONEST if one.name in MACHINES]

    @cached_property
    def _torch(self) -> TorchLayers:
        return TorchLayers(self.model.gguf)

    def run(self, start: int, rows: Sequence[Rows]) -> Iterator[tuple[int, list[Hidden], dict[str, list[Hidden]]]]:
        """For each end: the verifier's rows of each sequence, and those of every machine."""
        layers = self.model.manifest.architecture.layers
        current = {one.name: list(rows) for one in (REFERENCE, *self._claimants)}
        theirs = [self._torch.run(start, one) for one in rows]
        for layer in range(start, layers):
            for one in (REFERENCE, *self._claimants):
                current[one.name] = list(run_layer(self._load(layer, one), one, current[one.name]))
            last = layer + 1 == layers
            claims = {name: [_widen(one) for one in found] for name, found in current.items()}
            own = claims.pop(REFERENCE.name)
            claims[TORCH] = [one[layer - start] for one in theirs]
            yield layer + 1, own, claims
            if last:
                return

    def enter(self, tokens: Rows, start: int) -> Rows:
        """What enters layer `start`, as a wire carries it."""
        rows = tokens
        for layer in range(start):
            rows = run_layer(self._load(layer, REFERENCE), REFERENCE, [rows])[0]
        return rows if start == 0 else send(_widen(rows), WireDtype(self.model.manifest.wire_dtype))

    def embed(self, start: int, rows: Rows) -> Hidden:
        """The rows that the shard's delta is counted from."""
        return get_embedded(self._load(start, REFERENCE), rows)

    def _load(self, layer: int, claimant: Claimant) -> ShardSession:
        key = layer, claimant.weights, claimant.way
        if key not in self._sessions:
            manifest, directory = self.model.manifest, self.model.directory
            if claimant.weights is not Weights.PUBLISHED:
                target = self._workspace / f"{layer}-{claimant.weights.name}"
                manifest, directory = write_layer(directory, target, manifest, layer, claimant.weights), target
            self._sessions[key] = ShardSession(ShardRange(manifest, layer, layer + 1), directory, way=claimant.way)
        return self._sessions[key]


def cut_windows(number: int, positions: int) -> list[tuple[int, int]]:
    """Disjoint windows over a text's positions, (first, length) each; position 0 is never a window alone."""
    generator = np.random.default_rng([number, 32])
    found, first = [], 0
    while first < positions:
        length = min(int(generator.choice(LENGTHS)), positions - first)
        if first == 0 and length == 1:
            continue
        found.append((first, length))
        first += length
    return found


def measure_text(machines: Machines, number: int) -> NDArray[np.int64]:
    """All measured windows of text `number` and its neighbour (batches need two): rows of COLUMNS."""
    layers = machines.model.manifest.architecture.layers
    start = int(np.random.default_rng([number, 7]).integers(0, layers))
    tokens = [draw_sample(one, POSITIONS, machines.model.tokenizer)[1] for one in (2 * number, 2 * number + 1)]
    rows = [machines.enter(one, start) for one in tokens]
    bases = [machines.embed(start, one) for one in rows]
    wire = WireDtype(machines.model.manifest.wire_dtype)
    found: list[tuple[int, ...]] = []
    for end, own, claims in machines.run(start, rows):
        for index, (mine, base) in enumerate(zip(own, bases, strict=True)):
            judge = Recomputed(mine, base, wire)
            windows = cut_windows(2 * number + index, POSITIONS)
            lengths = sorted({length for _, length in windows})
            for machine, name in enumerate(NAMES):
                distances = judge.measure(claims[name][index], lengths)
                found += [(start, end, machine, at, size, int(distances[size][at])) for at, size in windows]
    return np.array(found, np.int64)


def measure_all(machines: Machines, work: Path, wanted: int) -> Iterator[tuple[int, int]]:
    """Texts until `wanted` windows are measured; yields the number of texts and of windows after each."""
    work.mkdir(parents=True, exist_ok=True)
    windows = number = 0
    while windows < wanted:
        path = work / f"honest-{number:05}.npy"
        if not path.exists():
            partial = path.with_suffix(".part")
            with partial.open("wb") as file:
                np.save(file, measure_text(machines, number))
            partial.replace(path)
        measured = np.load(path)
        windows += int(is_judged(measured).sum())
        number += 1
        yield number, windows


def is_judged(windows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows of COLUMNS are windows that a request may have and that a small distance may fail."""
    first, length = windows[:, 3], windows[:, 4]
    found: NDArray[np.bool_] = (first >= WINDOW_POSITIONS) | ((first == 0) & (length >= JUDGED_POSITIONS_MIN))
    return found


def _widen(rows: Rows) -> Hidden:
    return rows.astype(np.float32, copy=False)
