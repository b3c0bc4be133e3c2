"""What layer ranges of a model take: bytes of weights, by its manifest, and KV memory, by its family. Pure."""

from __future__ import annotations

from collections.abc import Callable

from inference.model.graph.shard import ShardRange
from inference.placement import ModelBytes, RangeBytes
from proto_specs.types.manifest import FP32_BYTES, Manifest, Unit, UnitKind

UnitFilter = Callable[[Unit], bool]


def measure_model(manifest: Manifest) -> ModelBytes:
    """Weights and KV memory of a model's layers. Raises ModelFormatError for one that this build cannot run."""
    whole = ShardRange(manifest, 0, manifest.architecture.layers)
    shapes = [whole.family.get_kv_shape(whole.decoder, layer) for layer in whole.layers]
    kv = tuple(one.heads * (one.key_width + one.value_width) * FP32_BYTES for one in shapes)
    return ModelBytes(measure_units(manifest, lambda unit: unit.kind != UnitKind.GOLDEN), kv)


def measure_units(manifest: Manifest, is_counted: UnitFilter) -> RangeBytes:
    """Bytes of the units that ranges need, of those counted: weights, and the golden windows at their boundaries."""
    layers = manifest.architecture.layers
    sizes = {(unit.kind, unit.index): unit.bytes_total for unit in manifest.units if is_counted(unit)}
    whole = ShardRange(manifest, 0, layers)
    embed, head = sizes.get((UnitKind.EMBED, 0), 0), sizes.get((UnitKind.HEAD, 0), 0)
    shared = embed if whole.decoder.tied_embeddings else 0
    golden = [sizes.get((UnitKind.GOLDEN, boundary), 0) for boundary in range(layers + 1)]
    by_layer = tuple(sizes.get((UnitKind.LAYER, layer), 0) + golden[layer] for layer in range(layers))
    return RangeBytes(by_layer, first=embed, last=head + shared + golden[layers], shared=shared)
