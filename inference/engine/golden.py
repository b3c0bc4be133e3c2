"""Golden windows: known tokens run through a model once, so that any machine can tell whether its layers compute right.

The window is GOLDEN_POSITIONS token ids drawn from a fixed seed. What crosses each boundary of a model cut between all
layers is stored in fp32 as a unit (boundary 0: the ids), computed layer by layer when the model is imported. A worker
of layers [s, e) runs unit s and compares with unit e before it bonds: broken hardware, a wrong build or damaged memory
is found before it costs a bond.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inference.engine.ort import ShardSession
from inference.engine.rows import Rows
from inference.errors import GoldenError, ModelFormatError
from inference.fingerprint import PPB, compute_delta, compute_distance, compute_scale
from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore, find_unit
from proto_specs.types.manifest import FP32_BYTES, Manifest, UnitKind, WireDtype

GOLDEN_POSITIONS = 32
RANGE_SLACK = 16
"""Rows may hold values so many times the largest of the golden window: outliers differ with the text."""

_DOMAIN = b"myelin/golden"
RANGE_MAX = 2**32 - 1
"""A range is an integer of 32 bits."""


def make_golden_tokens(vocab: int) -> Rows:
    """The window's token ids, of a vocabulary of `vocab`: 8 bytes of SHAKE-256 each, little-endian, modulo `vocab`."""
    drawn = np.frombuffer(hashlib.shake_256(_DOMAIN).digest(8 * GOLDEN_POSITIONS), dtype="<u8")
    return (drawn % vocab).astype(np.uint32)


def compute_golden(manifest: Manifest, directory: Path, threads: int = 1) -> Iterator[Rows]:
    """The rows at every boundary, 0 (token ids) to the last, holding one layer at a time.

    `directory` holds the weight units. Raises EngineError when a layer cannot run, ModelFormatError when one gives NaN.
    """
    rows: Rows = make_golden_tokens(manifest.architecture.vocab)
    yield rows
    for layer in range(manifest.architecture.layers):
        session = ShardSession(ShardRange(manifest, layer, layer + 1), directory, threads)
        rows = session.run(session.open_kv(GOLDEN_POSITIONS), rows).hidden
        if not np.isfinite(rows).all():
            raise ModelFormatError(f"layer {layer} of {manifest.name} gives NaN or infinity: it cannot be run in fp32")
        yield rows


def compute_range(rows: Rows) -> int:
    """How large values at a boundary may be whose golden rows these are."""
    return min(int(np.ceil(np.abs(rows).max() * RANGE_SLACK)) or 1, RANGE_MAX)


def read_golden(store: ShardStore, model_id: bytes, manifest: Manifest, boundary: int) -> Rows:
    """A boundary's rows, hashed against the manifest. Raises StoreError when the unit is not here or damaged.

    Raises ModelFormatError when it is no window: the manifest may be a stranger's.
    """
    unit = find_unit(manifest, UnitKind.GOLDEN, boundary)
    size = GOLDEN_POSITIONS * FP32_BYTES * (manifest.architecture.hidden if boundary else 1)
    if unit.bytes_total != size:
        raise ModelFormatError(
            f"golden window {boundary} of {manifest.name} has {unit.bytes_total} bytes, not {size}: the manifest is"
            " damaged"
        )
    store.verify_unit(model_id, unit)
    data = store.get_unit_path(model_id, unit).read_bytes()
    if boundary == 0:
        return np.frombuffer(data, dtype="<u4").astype(np.uint32)
    return np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(-1, manifest.architecture.hidden)


def measure_golden(session: ShardSession, entered: Rows, expected: Rows) -> int:
    """Distance, in parts per billion, of what the session makes of a boundary's rows from those of a later boundary."""
    output = session.run(session.open_kv(len(entered)), entered)
    base = entered.astype(np.float32, copy=False) if output.embedded is None else output.embedded
    wanted = expected.astype(np.float32, copy=False)
    return compute_distance(output.hidden, wanted, base, compute_scale(compute_delta(wanted, base)), WireDtype.FP32)


def check_golden(session: ShardSession, store: ShardStore, model_id: bytes) -> int | None:
    """The distance of a session's golden windows, None when the model has none.

    Raises GoldenError, naming the layer at fault, when it is beyond the profile's bound.
    """
    shard = session.shard
    manifest = shard.manifest
    if not manifest.ranges:
        return None
    entered = read_golden(store, model_id, manifest, shard.start)
    distance = measure_golden(session, entered, read_golden(store, model_id, manifest, shard.end))
    if distance <= manifest.profile.golden_ppb:
        return distance
    at_fault = f"layers {shard.start} to {shard.end - 1}"
    for layer in shard.layers:
        alone = ShardSession(ShardRange(manifest, layer, layer + 1), store.get_directory(model_id), session.threads)
        rows, wanted = (read_golden(store, model_id, manifest, one) for one in (layer, layer + 1))
        if measure_golden(alone, rows, wanted) > manifest.profile.golden_ppb:
            at_fault = f"layer {layer}"
            break
    raise GoldenError(
        f"this machine computes {at_fault} of {manifest.name} wrong: the golden window is {distance / PPB:.1e}"
        f" off, at most {manifest.profile.golden_ppb / PPB:.1e} is allowed; check memory, processor, runtime"
    )
