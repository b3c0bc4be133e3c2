"""`python -m benchmarks.verify`: honest windows accused, cheats missed, what an adversary gains, bytes and costs.

See benchmarks/README.md. What was measured of texts and shards stays in the work directory: a run goes on from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.machine import describe_machine
from benchmarks.verify.attacks import measure_attacks
from benchmarks.verify.corpus import draw_sample
from benchmarks.verify.counted import count_cheats, count_honest, measure_separation
from benchmarks.verify.figures import measure_commitments, measure_settlement, measure_wire
from benchmarks.verify.honest import POSITIONS, Machines, Model, measure_all
from benchmarks.verify.quantised import compare_wires
from benchmarks.verify.torch_side import TorchLayers
from inference.calibration.calibrate import CalibrationPlan, choose_starts, measure_model
from inference.calibration.samples import make_samples
from inference.calibration.tallies import Boundary
from inference.calibration.thresholds import Chosen, choose
from inference.model.fetch import SAMPLES, cache_dir, fetch_sample
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.errors import CliError
from node.cli.failing import end_in_one_line
from node.cli.models import import_sample
from node.cli.models_dir import get_models_dir
from proto_specs.errors import ExitStatus
from proto_specs.types.manifest import compute_model_id

GROUPS = ("wire", "commitments", "settlement", "check", "cheats", "honest", "quantised", "adversary")
SHARDS, WINDOWS = 3, 2
"""As `myelin model calibrate` has them by default: what it measured is not measured again."""
TEXTS = 6
CHECK = "benchmarks.verify.check"

Say = Callable[[str], None]


class WrongChoice(CliError):
    """An option of the benchmark makes no sense. The message says what to write."""

    exit_status = ExitStatus.WRONG_USAGE


def main() -> None:
    """Measure; JSON on standard output, progress, and an error in one line, on standard error."""
    parser = argparse.ArgumentParser(prog="myelin bench verify", description=__doc__)
    parser.add_argument("--only", default=",".join(GROUPS), help=f"some of {','.join(GROUPS)}")
    parser.add_argument("--windows", type=int, default=300_000, help="honest windows to measure")
    parser.add_argument("--work", default="build/verify", help="where measured texts are kept")
    parser.add_argument("--models", default=None)
    parser.add_argument("--out", default=None, help="write the figures to this file too")
    parser.add_argument("--json", action="store_true", dest="as_json")
    given = parser.parse_args()
    with end_in_one_line(lambda: given.as_json):
        groups = tuple(given.only.split(","))
        if unknown := sorted(set(groups) - set(GROUPS)):
            raise WrongChoice(f"--only {unknown[0]} is unknown: take some of {','.join(GROUPS)}")
        models = get_models_dir(Path(given.models) if given.models else None).absolute()
        found = measure(groups, given.windows, models, Path(given.work), Console(stderr=True))
        text = json.dumps(found, indent=None if given.as_json else 2)
        if given.out:
            Path(given.out).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(text)


def measure(groups: tuple[str, ...], windows: int, models: Path, work: Path, console: Console) -> dict[str, Any]:
    """The figures of these groups."""

    def say(text: str) -> None:
        console.print(text, highlight=False)

    manifest = import_sample(models, console)
    store, model_id = ShardStore(models), compute_model_id(manifest)
    tokenizer = Tokenizer.load(store, model_id)
    gguf = fetch_sample(SAMPLES["smollm2"], cache_dir(), lambda done, total: None)
    found: dict[str, Any] = {"machine": describe_machine(), "load_before": round(os.getloadavg()[0], 2)}
    if "wire" in groups:
        found["wire"] = measure_wire(manifest)
    if "commitments" in groups:
        found["commitments"] = measure_commitments()
    if "settlement" in groups:
        found["settlement"] = measure_settlement()
    if "check" in groups:
        found["check"] = _measure_check()
    if {"cheats", "honest", "adversary"} & set(groups):
        measured = _calibrate(store, model_id, models / "calibrations", say)
        chosen = choose(measured, manifest.architecture.layers)
        found["thresholds"] = [asdict(one) | {"missed": len(one.missed)} for one in chosen]
        if "cheats" in groups:
            found["cheats"] = count_cheats(measured, chosen)
            cuts = [*choose_starts(manifest.architecture.layers, SHARDS), manifest.architecture.layers]
            found["separation"] = measure_separation(measured, cuts)
        if "honest" in groups:
            model = Model(manifest, store.get_directory(model_id), tokenizer, gguf)
            found["honest"] = _measure_honest(model, chosen, windows, work, say)
    if {"quantised", "adversary"} & set(groups):
        torch = TorchLayers(gguf)
        texts = [draw_sample(one, POSITIONS, tokenizer)[1] for one in range(TEXTS)]
        if "quantised" in groups:
            found["quantised"] = compare_wires(torch, (10, 20, 30), texts)
        if "adversary" in groups:
            found["adversary"] = measure_attacks(torch, texts, [one.threshold for one in chosen], say)
    return found


def _calibrate(store: ShardStore, model_id: bytes, work: Path, say: Say) -> list[Boundary]:
    architecture = store.load_manifest(model_id).architecture
    samples = make_samples(Tokenizer.load(store, model_id), WINDOWS, architecture.context_max)
    wanted = CalibrationPlan(choose_starts(architecture.layers, SHARDS), samples)
    said: set[int] = set()

    def tell(done: int, total: int) -> None:
        if (tenth := 10 * done // total) not in said:
            said.add(tenth)
            say(f"honest machines and cheats: {10 * tenth} %")

    return measure_model(store, model_id, wanted, work, tell)


def _measure_honest(model: Model, chosen: list[Chosen], windows: int, work: Path, say: Say) -> dict[str, Any]:
    texts = []
    with tempfile.TemporaryDirectory(prefix="myelin-verify-") as workspace:
        machines = Machines(model, Path(workspace))
        for number, count in measure_all(machines, work, windows):
            texts.append(np.load(work / f"honest-{number - 1:05}.npy"))
            if number % 10 == 0:
                say(f"{count} windows of {2 * number} texts")
    return count_honest(texts, chosen)


def _measure_check() -> dict[str, Any]:
    """What one check costs: timed beside this build's verifier."""
    if importlib.util.find_spec(CHECK) is None:
        return {"not_measured": f"{CHECK} is not part of this build"}
    found: dict[str, Any] = importlib.import_module(CHECK).measure_check()
    return found


if __name__ == "__main__":
    main()
