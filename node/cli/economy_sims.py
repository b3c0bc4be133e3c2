"""`myelin sim economy`: does it pay to deviate? Actors with money on the chain's own runtime, seed after seed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from consensus.runtime.params.bounds import BOUNDS
from node.cli.errors import CliError
from node.cli.options import JsonOption
from node.cli.progress import clear_progress, report_progress
from node.sim.economy.plan import EconomyPlan, ParamsOf
from node.sim.economy.plots import save_plots
from node.sim.economy.report import format_comparisons, format_roles
from node.sim.economy.run import EconomyTask, simulate_economy
from node.sim.economy.scenarios import EconomyScenario

ScenarioOption = Annotated[EconomyScenario | None, typer.Option(help="One deviation only (default: all).")]
EpochsOption = Annotated[int, typer.Option(min=1, max=10_000, help="Epochs, of ten blocks each.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The first seed.")]
DIGITS_MAX = 19
RunsOption = Annotated[int, typer.Option(min=1, help="How many seeds.")]
ParamsOption = Annotated[ParamsOf, typer.Option("--params", help="Whose parameters.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter by another value, such as inference.burn_permille=100. Repeatable."),
]
SweepOption = Annotated[bool, typer.Option("--sweep", help="Every strength of each deviation.")]
PlotOption = Annotated[Path | None, typer.Option(help="Write plots (SVG) into this directory; implies --sweep.")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Processes (default: one a core).")]


class ChangeInvalid(CliError):
    """The text changes no parameter. The message says why."""


def parse_changes(texts: list[str]) -> tuple[tuple[str, int], ...]:
    """(name, value) of each NAME=VALUE. Raises ChangeInvalid for a name that no vote can change, or for no number."""
    found = []
    for text in texts:
        name, _, value = text.partition("=")
        if name not in BOUNDS:
            raise ChangeInvalid(f"{name!r:.60} is no parameter that a vote can change: write MODULE.FIELD=NUMBER")
        if not value.isascii() or not value.isdecimal() or len(value) > DIGITS_MAX:
            raise ChangeInvalid(f"{value!r:.40} is no value of {name}: write a whole number")
        found.append((name, int(value)))
    return tuple(found)


def economy(
    scenario: ScenarioOption = None,
    epochs: EpochsOption = 20,
    seed: SeedOption = 0,
    seeds: RunsOption = 4,
    params: ParamsOption = ParamsOf.PUBLIC,
    changed: SetOption = None,
    sweep: SweepOption = False,
    plot: PlotOption = None,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Honest, lazy, withholding, cheating, colluding and more, against honesty with the same capital: who gains.

    MYL an epoch; a margin is what the deviation loses, over the seeds. Exit status 1 when one of the usual strength
    pays by more than chance.
    """
    if plot is not None:
        plot.mkdir(parents=True, exist_ok=True)
    task = EconomyTask(
        EconomyPlan(params_of=params, epochs=epochs, changes=parse_changes(changed or [])),
        tuple(EconomyScenario) if scenario is None else (scenario,),
        tuple(range(seed, seed + seeds)),
        jobs or len(os.sched_getaffinity(0)),
        is_sweep=sweep or plot is not None,
    )
    result = simulate_economy(task, lambda done, whole: report_progress("seeds", done, whole))
    clear_progress()
    if plot is not None:
        save_plots(result, plot)
    lines = [*format_comparisons(result["scenarios"]), *format_roles(result["without_emission"])]
    print(json.dumps(result, indent=1) if as_json else "\n".join(lines))
    raise typer.Exit(1 if any(one["pays"] and one["is_usual"] for one in result["scenarios"]) else 0)
