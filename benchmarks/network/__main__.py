"""`python -m benchmarks.network`: paths of worker processes on this machine. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio
from rich.console import Console

from benchmarks.inference.chosen import choose_model
from benchmarks.inference.lines import CallFailed
from benchmarks.inference.run import TEXT
from benchmarks.machine import describe_machine
from benchmarks.network.kills import measure_kills
from benchmarks.network.parts import Measured, measure_hop, measure_pipeline
from benchmarks.network.petals import PetalsDidNotStart, measure_petals
from benchmarks.network.planner import measure_planner
from benchmarks.network.speculation import measure_speculation
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.failing import end_in_one_line
from node.cli.models import import_sample
from node.cli.models_dir import get_models_dir
from proto_specs.types.manifest import compute_model_id

PARTS = ("hop", "pipeline", "speculation", "petals", "planner", "kills")
PROMPT_TOKENS = 40
PROMPTS = 4


def main() -> None:
    """Measure; JSON on standard output, progress on standard error."""
    parser = argparse.ArgumentParser(prog="myelin bench network", description=__doc__)
    parser.add_argument("--only", default="hop,pipeline", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=100, help="answers with a killed stage, in the part of that name")
    parser.add_argument("--seed", type=int, default=1, help="of the kills")
    parser.add_argument("--models", default=None)
    parser.add_argument("--petals", default=None, help="an interpreter that has petals; the part needs it")
    parser.add_argument("--json", action="store_true", dest="as_json")
    given = parser.parse_args()
    with end_in_one_line(lambda: given.as_json):
        models = get_models_dir(Path(given.models) if given.models else None).absolute()
        console, parts = Console(stderr=True), tuple(given.only.split(","))
        found = _measure(parts, given.rounds, models, given.petals, console)
        if "kills" in parts:
            found["kills"] = _measure_kills(models, given.kills, given.seed, console)
    print(json.dumps(found, indent=None if given.as_json else 2))


def _measure_kills(models: Path, rounds: int, seed: int, console: Console) -> dict[str, Any]:
    manifest = import_sample(models, console)
    model = compute_model_id(manifest)
    tokenizer, layers = Tokenizer.load(ShardStore(models), model), manifest.architecture.layers

    def say(text: str) -> None:
        console.print(text, highlight=False)

    return trio.run(measure_kills, model, models, layers, tokenizer, rounds, seed, say)


def _measure(parts: tuple[str, ...], rounds: int, models: Path, petals: str | None, console: Console) -> dict[str, Any]:
    def say(text: str) -> None:
        console.print(text, highlight=False)

    model = compute_model_id(import_sample(models, console))
    tokens = Tokenizer.load(ShardStore(models), model).encode(TEXT)
    prompts = tuple(tuple(tokens[at : at + PROMPT_TOKENS]) for at in range(PROMPTS))
    measured = Measured(models, model, prompts)
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "versions": {name: version(name) for name in ("libp2p", "trio", "numpy")},
        "load_before": round(os.getloadavg()[0], 2),
    }
    if "hop" in parts:
        found["hop"] = measure_hop(measured, rounds, say)
    if "pipeline" in parts:
        found["pipeline"] = measure_pipeline(measured, rounds, say)
    if "speculation" in parts:
        found["speculation"] = measure_speculation(models, model, rounds, say)
    if "planner" in parts:
        found["planner"] = measure_planner(measured, tokens, rounds, say)
    if "petals" in parts:
        try:
            fast = bytes.fromhex(choose_model(None, models, console, is_fast=True).id_hex)
            found["petals"] = measure_petals(measured, {"exact": model, "fast": fast}, rounds, petals, say)
        except (PetalsDidNotStart, CallFailed) as error:
            found["petals"] = {"skipped": str(error)}
    return {**found, "load_after": round(os.getloadavg()[0], 2)}


if __name__ == "__main__":
    main()
