"""A bug planted under the simulator, which has to find it: `python -m tests.simulation.planted BUG [--seeds N]`.

Ends at the first seed that violates the checks, with exit status 1, as `myelin sim consensus` would.
"""

from __future__ import annotations

from functools import partial

import typer

from node.cli import sims
from node.cli.options import JsonOption
from node.sim.consensus.plan import HEIGHTS_DEFAULT, VALIDATORS_DEFAULT
from tests.simulation.bugs import Bug, plant


def main(
    bug: Bug,
    seeds: sims.SeedsOption = 1_000,
    start: sims.StartOption = 0,
    validators: sims.ValidatorsOption = VALIDATORS_DEFAULT,
    heights: sims.HeightsOption = HEIGHTS_DEFAULT,
    jobs: sims.JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plant BUG, and simulate seeds until one of them shows it."""
    command = f"python -m tests.simulation.planted {bug.value}"
    runs = sims.SeedRuns(command, seeds, start, validators, heights, jobs, partial(plant, bug), ends_early=True)
    raise typer.Exit(runs.run_and_show(as_json=as_json))


if __name__ == "__main__":
    typer.run(main)
