"""Calibrates a stored model: measures from every start that shards may have, resumably, and writes what it found."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference.calibration.claimants import CHEATS, HONEST
from inference.calibration.layer_source import LayerSource
from inference.calibration.measuring import Advance, enter, measure_start
from inference.calibration.substitutes import link
from inference.calibration.tallies import Boundary
from inference.calibration.thresholds import Chosen
from inference.engine.golden import RANGE_SLACK
from inference.engine.rows import Tokens
from inference.errors import CalibrationError
from inference.model.store import Progress, ShardStore
from proto_specs.types.manifest import Manifest, ServiceClass, UnitKind

_FORMAT = "myelin-calibration-3"
CLAIMANTS = (*HONEST, *CHEATS)


@dataclass(frozen=True)
class CalibrationPlan:
    """What to measure: the layers that shards begin with, 0 among them, and the sequences by kind."""

    starts: tuple[int, ...]
    samples: Mapping[str, Tokens]


def choose_starts(layers: int, shards: int) -> tuple[int, ...]:
    """Where shards begin when the model is cut evenly. Raises CalibrationError for more shards than layers."""
    if not 1 <= shards <= layers:
        raise CalibrationError(f"a model of {layers} layers is cut into 1 to {layers} shards, not {shards}")
    return tuple(sorted({layers * one // shards for one in range(shards)}))


def measure_model(
    store: ShardStore, model_id: bytes, wanted: CalibrationPlan, work: Path, progress: Progress
) -> list[Boundary]:
    """Findings of every shard that begins at one of the starts. Holds one layer at a time, in several forms.

    What was measured of a start is a file in `work`; a run that was cut off goes on behind the last one. `progress`
    counts layers of claimants. Raises CalibrationError for a model whose distances mean nothing here and where
    nothing can be written, StoreError, EngineError.
    """
    manifest = store.load_manifest(model_id)
    if manifest.service_class == ServiceClass.FAST:
        raise CalibrationError(
            f"{manifest.name} is of the fast class, whose bounds do not come from here: docs/models.md"
        )
    for unit in manifest.units:
        if unit.kind in (UnitKind.EMBED, UnitKind.LAYER, UnitKind.HEAD):
            store.verify_unit(model_id, unit)
    try:
        return _measure(store.get_directory(model_id), manifest, model_id, wanted, work, progress)
    except OSError as error:
        raise CalibrationError(
            f"cannot write other weights or what was measured ({error}): free space, or name another --work"
        ) from error


def _measure(
    directory: Path, manifest: Manifest, model_id: bytes, wanted: CalibrationPlan, work: Path, progress: Progress
) -> list[Boundary]:
    layers, per_layer = manifest.architecture.layers, len(CLAIMANTS) + 1
    total = sum(layers - one for one in wanted.starts) * per_layer
    work.mkdir(parents=True, exist_ok=True)
    done, found = 0, []
    for start in wanted.starts:
        path = work / f"{_compute_key(model_id, wanted, start)}.json"
        measured = _load(path)
        if measured is None:
            with LayerSource(manifest, directory) as source:
                measured = _measure_from(source, wanted, start, _count(progress, done, total))
            _save(path, measured)
        found += measured
        done += (layers - start) * per_layer
        progress(done, total)
    return found


def _measure_from(source: LayerSource, wanted: CalibrationPlan, start: int, advance: Advance) -> list[Boundary]:
    entering = enter(source, list(wanted.samples.values()), start, wanted.starts, RANGE_SLACK)
    return list(measure_start(source, start, entering, CLAIMANTS, advance))


def _count(progress: Progress, done: int, total: int) -> Advance:
    steps = itertools.count(done + 1)
    return lambda: progress(next(steps), total)


def apply(manifest: Manifest, chosen: Sequence[Chosen]) -> Manifest:
    """The manifest with those thresholds, and with the ranges found unless it has no golden windows."""
    thresholds = tuple(one.threshold for one in chosen)
    ranges = tuple(one.largest_value for one in chosen) if manifest.ranges else ()
    profile = replace(manifest.profile, threshold_ppb=max(thresholds))
    return replace(manifest, thresholds=thresholds, ranges=ranges, profile=profile)


def write_calibrated(store: ShardStore, model_id: bytes, manifest: Manifest) -> bytes:
    """Store the model under its new manifest; the units are the same files. Returns the new model id.

    Raises StoreError when a unit is missing or damaged.
    """
    for unit in manifest.units:
        store.verify_unit(model_id, unit)
    new_id = store.save_manifest(manifest)
    for unit in manifest.units:
        if not store.has_unit(new_id, unit):
            target = store.get_unit_path(new_id, unit)
            target.unlink(missing_ok=True)
            link(store.get_unit_path(model_id, unit), target)
    return new_id


def _compute_key(model_id: bytes, wanted: CalibrationPlan, start: int) -> str:
    """What a start's findings depend on."""
    digest = hashlib.sha256(f"{_FORMAT} {start} {wanted.starts} {CLAIMANTS}".encode() + model_id)
    for kind, tokens in wanted.samples.items():
        digest.update(kind.encode() + tokens.tobytes())
    return digest.hexdigest()[:32]


def _load(path: Path) -> list[Boundary] | None:
    try:
        return [Boundary.from_json(one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None  # measured again


def _save(path: Path, measured: Sequence[Boundary]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps([one.to_json() for one in measured]), encoding="utf-8")
    partial.replace(path)
