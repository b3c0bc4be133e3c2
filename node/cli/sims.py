"""`myelin sim`: whole nodes on virtual time, seed after seed, and the one command that replays a seed that failed."""

from __future__ import annotations

import json
import os
import time
from typing import Annotated

import typer

from node.cli.options import JsonOption
from node.cli.progress import clear_progress, report_progress
from node.sim.consensus.many import Summary, format_replay, simulate_many
from node.sim.consensus.plan import HEIGHTS_DEFAULT, VALIDATORS_DEFAULT
from tests.simulation.bugs import Bug

app = typer.Typer(no_args_is_help=True, help="Simulations: whole nodes on virtual time under a seed.")
SHOWN_MAX = 20


@app.callback()
def _root() -> None:
    """Keeps `consensus` a command of its own."""


@app.command()
def consensus(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 100,
    start: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    validators: Annotated[int, typer.Option(min=1, max=64, help="Validators of each simulation.")] = VALIDATORS_DEFAULT,
    heights: Annotated[int, typer.Option(min=1, help="Heights each simulation has to reach.")] = HEIGHTS_DEFAULT,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes (default: one a core).")] = None,
    bug: Annotated[Bug | None, typer.Option(help="Plant this bug: the simulator has to find it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Loss, delay, partitions, crashes at every write, liars: agreement, validity, supply and progress must hold.

    Exit status 1 when a seed violates them. With --bug it ends at the first seed that does.
    """
    jobs = min(jobs or len(os.sched_getaffinity(0)), seeds)
    began_s = time.monotonic()

    def progress(summary: Summary) -> bool:
        rate = summary.seeds / (time.monotonic() - began_s)
        report_progress(f"{rate:.1f} seeds/s, {len(summary.violations)} with violations", summary.seeds, seeds)
        return bug is not None and bool(summary.violations)

    summary = simulate_many(range(start, start + seeds), validators, heights, jobs, bug, progress)
    clear_progress()
    elapsed_s = time.monotonic() - began_s
    commands = {seed: format_replay(seed, validators, heights, bug) for seed in summary.violations}
    if as_json:
        found = [
            {"seed": seed, "violations": texts, "replay": commands[seed]} for seed, texts in summary.violations.items()
        ]
        result = {
            "seeds": summary.seeds,
            "jobs": jobs,
            "seconds": round(elapsed_s, 1),
            "seeds_per_s_per_core": round(summary.seeds / elapsed_s / jobs, 2),
            "virtual_s": summary.virtual_ms // 1_000,
            "violations": found,
            "counts": dict(sorted(summary.counts.items())),
        }
        print(json.dumps(result, indent=1))
    else:
        for seed, texts in list(summary.violations.items())[:SHOWN_MAX]:
            print(f"seed {seed}: {'; '.join(texts)}\n  replay: {commands[seed]}")
        rate = summary.seeds / elapsed_s / jobs
        print(f"{summary.seeds} seeds, {len(summary.violations)} with violations; {rate:.2f}/s on each of {jobs} cores")
        print(", ".join(f"{count} {name}" for name, count in sorted(summary.counts.items())))
    raise typer.Exit(1 if summary.violations else 0)
