"""`python -m benchmarks.gateway`: the gateway on a localnet of its own. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import trio
from rich.console import Console

from benchmarks.gateway.items import Measured, Prompts, measure_first, measure_http, measure_long, measure_streams
from benchmarks.gateway.network import Running, open_network
from benchmarks.inference.lines import Child, start_child
from benchmarks.inference.run import TEXT
from benchmarks.machine import describe_machine
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.failing import end_in_one_line
from node.cli.models import import_sample
from node.cli.models_dir import get_models_dir
from proto_specs.types.manifest import Manifest, compute_model_id

GROUPS = ("http", "first", "streams", "long")
POSITIONS = 8_192


def main() -> None:
    """Measure; JSON on standard output, progress on standard error."""
    parser = argparse.ArgumentParser(prog="myelin bench gateway", description=__doc__)
    parser.add_argument("--only", default=",".join(GROUPS), help=f"some of {','.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default=None)
    parser.add_argument("--json", action="store_true", dest="as_json")
    given = parser.parse_args()
    with end_in_one_line(lambda: given.as_json):
        models = get_models_dir(Path(given.models) if given.models else None).absolute()
        found = trio.run(_measure, tuple(given.only.split(",")), given.rounds, models, Console(stderr=True))
    print(json.dumps(found, indent=None if given.as_json else 2))


async def _measure(groups: tuple[str, ...], rounds: int, models: Path, console: Console) -> dict[str, Any]:
    def say(text: str) -> None:
        console.print(text, highlight=False)

    manifest = import_sample(models, console)
    found: dict[str, Any] = {"machine": describe_machine(), "load_before": round(os.getloadavg()[0], 2)}
    tokenizer = Tokenizer.load(ShardStore(models), compute_model_id(manifest))
    prompts = Prompts(TEXT, lambda text: len(tokenizer.encode_chat([{"role": "user", "content": text}])))
    measured = Measured(manifest.name, manifest.eos_tokens, prompts)
    if "http" in groups:
        with start_child("benchmarks.gateway.standin") as child:
            port = child.call("open_gateway", models=str(models), model=compute_model_id(manifest).hex(), text=TEXT)
            found["http"] = await measure_http(child, port, measured, rounds, say)
    if "first" in groups or "streams" in groups:
        async with _open(models, manifest, 3) as running:
            if "first" in groups:
                with _start_ours(models, manifest, 3) as ours:
                    found["first"] = await measure_first(running, measured, ours, rounds, say)
            if "streams" in groups:
                found["streams"] = await measure_streams(running, measured, rounds, say)
    if "long" in groups:
        async with _open(models, manifest, 2) as running:
            with _start_ours(models, manifest, 2) as ours:
                found["long"] = await measure_long(running, measured, ours, rounds, say)
    return found


def _open(models: Path, manifest: Manifest, workers: int) -> AbstractAsyncContextManager[Running]:
    return open_network(compute_model_id(manifest).hex(), models, manifest.architecture.layers, workers)


@contextmanager
def _start_ours(models: Path, manifest: Manifest, shards: int) -> Iterator[Child]:
    """The same shards in one process."""
    layers = manifest.architecture.layers
    with start_child("benchmarks.inference.ours") as ours:
        ours.call("open_store", models=str(models), model=compute_model_id(manifest).hex())
        cuts = [layers * at // shards for at in range(shards + 1)]
        ours.call("load", cuts=cuts, positions=POSITIONS, threads=1, verify=False)
        yield ours


if __name__ == "__main__":
    main()
