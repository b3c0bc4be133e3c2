"""What ranges of a model take is what its files and its KV memory take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.engine.kv_memory import KvMemory
from inference.footprint import measure_model, measure_units
from inference.model.graph.shard import ShardRange
from inference.model.importing import import_model
from inference.model.store import ShardStore
from node.transfer.shards.fetch import select_units
from proto_specs.types.manifest import Manifest, UnitKind, compute_model_id
from tests.unit.inference.tiny import LAYERS, make_weights, write_gguf

RANGES = [(start, end) for start in range(LAYERS) for end in range(start + 1, LAYERS + 1)]


@pytest.fixture(name="stored", params=[True, False], ids=["tied", "untied"])
def fixture_stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ShardStore, Manifest]:
    path = write_gguf(tmp_path / "tiny.gguf", make_weights(request.param))
    manifest = import_model(path, tmp_path / "models", lambda _done, _total: None)
    return ShardStore(tmp_path / "models"), manifest


def test_weights_are_those_of_the_units_that_a_range_reads(stored: tuple[ShardStore, Manifest]) -> None:
    _, manifest = stored
    sizes = {(unit.kind, unit.index): unit.bytes_total for unit in manifest.units}
    weights = measure_model(manifest).weights
    table = weights.make_table()
    for start, end in RANGES:
        expected = sum(sizes[one] for one in ShardRange(manifest, start, end).units)
        assert weights.count(start, end) == table[start, end] == expected, (start, end)


def test_kv_memory_is_what_the_engine_takes(stored: tuple[ShardStore, Manifest]) -> None:
    _, manifest = stored
    kv = measure_model(manifest).kv
    for start, end in RANGES:
        memory = KvMemory(ShardRange(manifest, start, end), 1, 7, lambda shape: np.zeros(shape, np.float32))
        assert sum(one.nbytes for one in memory.layers.values()) == memory.positions * sum(kv[start:end])


def test_what_is_missing_is_what_a_fetch_would_bring(stored: tuple[ShardStore, Manifest]) -> None:
    """But for the text's units, which every range needs alike."""
    store, manifest = stored
    model = compute_model_id(manifest)
    for gone in ((UnitKind.EMBED, 0), (UnitKind.LAYER, 1), (UnitKind.GOLDEN, LAYERS), (UnitKind.GOLDEN, 0)):
        unit = next(one for one in manifest.units if (one.kind, one.index) == gone)
        store.get_unit_path(model, unit).unlink()
    missing = measure_units(manifest, lambda unit: not store.has_unit(model, unit))
    for layers in RANGES:
        units = [one for one in select_units(manifest, layers) if not store.has_unit(model, one)]
        expected = sum(one.bytes_total for one in units)
        # The window at the end of a range is its checker's too; it counts at the layer that begins there.
        last = next(one for one in manifest.units if (one.kind, one.index) == (UnitKind.GOLDEN, layers[1]))
        shown = last.bytes_total if layers[1] < LAYERS and not store.has_unit(model, last) else 0
        assert missing.count(*layers) == expected - shown, layers
