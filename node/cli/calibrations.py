"""`myelin model calibrate`: how far honest machines differ, how near cheats come, and thresholds between them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from inference.calibration.calibrate import (
    CalibrationPlan,
    apply,
    choose_starts,
    measure_model,
    write_calibrated,
)
from inference.calibration.samples import make_samples
from inference.calibration.thresholds import Chosen, choose
from inference.fingerprint import PPB
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.bars import make_progress
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import JsonOption
from node.cli.stored_models import find_model
from proto_specs.types.manifest import WireDtype

WORK_DIRECTORY = "calibrations"


def calibrate_command(
    model: Annotated[str, typer.Argument(help="Name, id, or the start of an id.")],
    shards: Annotated[int, typer.Option(min=1, help="Measure shards that begin where so many even ones do.")] = 3,
    windows: Annotated[int, typer.Option(min=1, max=64, help="Windows of 32 positions of each text.")] = 2,
    write: Annotated[
        bool, typer.Option("--write", help="Store the model with the thresholds and ranges found: under a new id.")
    ] = False,
    work: Annotated[
        Path | None, typer.Option(help="Where what was measured is kept, to go on from (default: beside the models).")
    ] = None,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure honest machines and cheats at every boundary, for the manifest's profile: minutes for a small model."""
    root = get_models_dir(models)
    store = ShardStore(root)
    model_id = find_model(store, model)
    manifest = store.load_manifest(model_id)
    layers = manifest.architecture.layers
    samples = make_samples(Tokenizer.load(store, model_id), windows, manifest.architecture.context_max)
    wanted = CalibrationPlan(choose_starts(layers, min(shards, layers)), samples)
    with make_progress(Console(stderr=True), counts_bytes=False) as progress:
        measuring = progress.add_task("calibrate", total=None)
        found = measure_model(
            store,
            model_id,
            wanted,
            root / WORK_DIRECTORY if work is None else work,
            lambda done, total: progress.update(measuring, completed=done, total=total),
        )
    chosen = choose(found, layers)
    new_id = write_calibrated(store, model_id, apply(manifest, chosen)) if write else None
    if as_json:
        fields: dict[str, Any] = {
            "model": f"0x{model_id.hex()}",
            "calibrated": None if new_id is None else f"0x{new_id.hex()}",
            "profile": asdict(manifest.profile),
            "wire_dtype": WireDtype(manifest.wire_dtype).name.lower(),
            "starts": list(wanted.starts),
            "boundaries": [asdict(one) for one in chosen],
            "shards": [replace(one, cheats={}, stretched={}).to_json() for one in found],
        }
        print(json.dumps(fields))
        return
    _print(chosen)
    if new_id is not None:
        print(f"calibrated: {manifest.name} is stored as 0x{new_id.hex()} too; register and serve that one")


def _print(chosen: Sequence[Chosen]) -> None:
    table = Table("after layer", "prefill", "decode", "threshold", "nearest cheat told", "not told", "range", box=None)
    for one in chosen:
        table.add_row(
            str(one.end - 1),
            *(f"{value / PPB:.1e}" for value in (one.prefill_worst, one.decode_worst, one.threshold)),
            f"{one.weakest / PPB:.1e} {one.weakest_name}",
            ", ".join(sorted({f"{missed.name} ({missed.length})" for missed in one.missed})) or "-",
            str(one.largest_value),
        )
    Console().print(table)
    print("prefill and decode are the worst honest distances; in brackets the rows of windows that pass")
