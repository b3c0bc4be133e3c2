"""`myelin sim`: nodes and networks on virtual time, seed after seed, and the command that replays a failed seed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from node.cli.economy_sims import economy
from node.cli.network_sims import network
from node.cli.options import JsonOption
from node.cli.progress import clear_progress, report_progress
from node.sim.consensus.many import Summary, format_replay, simulate_many
from node.sim.consensus.plan import HEIGHTS_DEFAULT, VALIDATORS_DEFAULT
from node.sim.consensus.run import Plant

app = typer.Typer(no_args_is_help=True, help="Simulations: nodes and networks on virtual time under a seed.")
app.command()(network)
app.command()(economy)
SHOWN_MAX = 20


SeedsOption = Annotated[int, typer.Option(min=1, help="How many seeds.")]
StartOption = Annotated[int, typer.Option(min=0, help="The first seed.")]
ValidatorsOption = Annotated[int, typer.Option(min=1, max=64, help="Validators of each simulation.")]
HeightsOption = Annotated[int, typer.Option(min=1, help="Heights each simulation has to reach.")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Processes (default: one a core).")]


@app.command()
def consensus(
    seeds: SeedsOption = 100,
    start: StartOption = 0,
    validators: ValidatorsOption = VALIDATORS_DEFAULT,
    heights: HeightsOption = HEIGHTS_DEFAULT,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Loss, delay, partitions, crashes at every write, liars: agreement, validity, supply and progress must hold.

    Exit status 1 when a seed violates them.
    """
    runs = SeedRuns("myelin sim consensus", seeds, start, validators, heights, jobs)
    raise typer.Exit(runs.run_and_show(as_json=as_json))


@dataclass(frozen=True, slots=True)
class SeedRuns:
    """The seeds to simulate. `command` takes these options, for the line that replays a seed.

    `plant` changes the code under every simulation; with `ends_early` the first seed with a violation ends the run.
    """

    command: str
    seeds: int
    start: int
    validators: int
    heights: int
    jobs: int | None
    plant: Plant = nullcontext
    ends_early: bool = False

    def run_and_show(self, *, as_json: bool) -> int:
        """Simulate and print the result; returns the exit status, 1 when a seed has a violation."""
        jobs = min(self.jobs or len(os.sched_getaffinity(0)), self.seeds)
        began_s = time.monotonic()

        def progress(summary: Summary) -> bool:
            rate = summary.seeds / (time.monotonic() - began_s)
            report_progress(f"{rate:.1f} seeds/s, {len(summary.violations)} with violations", summary.seeds, self.seeds)
            return self.ends_early and bool(summary.violations)

        seeds = range(self.start, self.start + self.seeds)
        summary = simulate_many(seeds, self.validators, self.heights, jobs, progress, self.plant)
        clear_progress()
        elapsed_s = time.monotonic() - began_s
        commands = {
            seed: format_replay(self.command, seed, self.validators, self.heights) for seed in summary.violations
        }
        if as_json:
            print(json.dumps(_make_result(summary, commands, jobs, elapsed_s), indent=1))
        else:
            _show_summary(summary, commands, jobs, elapsed_s)
        return 1 if summary.violations else 0


def _make_result(summary: Summary, commands: Mapping[int, str], jobs: int, elapsed_s: float) -> dict[str, Any]:
    found = [
        {"seed": seed, "violations": texts, "replay": commands[seed]} for seed, texts in summary.violations.items()
    ]
    return {
        "seeds": summary.seeds,
        "jobs": jobs,
        "seconds": round(elapsed_s, 1),
        "seeds_per_s_per_core": round(summary.seeds / elapsed_s / jobs, 2),
        "virtual_s": summary.virtual_ms // 1_000,
        "violations": found,
        "counts": dict(sorted(summary.counts.items())),
    }


def _show_summary(summary: Summary, commands: Mapping[int, str], jobs: int, elapsed_s: float) -> None:
    for seed, texts in list(summary.violations.items())[:SHOWN_MAX]:
        print(f"seed {seed}: {'; '.join(texts)}\n  replay: {commands[seed]}")
    rate = summary.seeds / elapsed_s / jobs
    print(f"{summary.seeds} seeds, {len(summary.violations)} with violations; {rate:.2f}/s on each of {jobs} cores")
    print(", ".join(f"{count} {name}" for name, count in sorted(summary.counts.items())))
