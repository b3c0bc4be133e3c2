"""`myelin sim network`: a network of workers and gateways on virtual time, seed after seed."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

from node.cli.options import JsonOption
from node.cli.progress import clear_progress, report_progress
from node.sim.network.many import format_network_replay, simulate_networks
from node.sim.network.report import compare_models, format_comparison, format_table, format_violations, merge_outcomes
from node.sim.network.world import Scenario, WorldPlan, make_plan

WORKERS_MIN, WORKERS_MAX = 10, 200_000

WorkersOption = Annotated[int, typer.Option(min=WORKERS_MIN, max=WORKERS_MAX, help="Workers of each network.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="How many seeds.")]
StartOption = Annotated[int, typer.Option(min=0, help="The first seed.")]
ScenarioOption = Annotated[Scenario, typer.Option(help="What befalls the network.")]
MinutesOption = Annotated[int, typer.Option(min=2, max=24 * 60, help="Virtual minutes.")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Processes (default: one a core).")]
CoarseOption = Annotated[bool, typer.Option("--coarse", help="The coarse model: a request is an event or two.")]
CompareOption = Annotated[bool, typer.Option("--compare", help="Both models, and how far they agree.")]


def network(
    workers: WorkersOption = 1_000,
    seeds: SeedsOption = 1,
    start: StartOption = 0,
    scenario: ScenarioOption = Scenario.CHURN,
    minutes: MinutesOption = 60,
    jobs: JobsOption = None,
    coarse: CoarseOption = False,
    compare: CompareOption = False,
    as_json: JsonOption = False,
) -> None:
    """Requests over workers that come, leave, fail and lie, with the product's routing, placement and recovery.

    Exit status 1 when a seed violates what must hold: no route over a worker known to fail while a live path is there,
    no more moves than allowed.
    """
    plan = make_plan(scenario, workers, minutes)
    numbers = range(start, start + seeds)
    used = min(jobs or len(os.sched_getaffinity(0)), seeds)
    if compare:
        fine = _run(numbers, plan, used, scenario, is_coarse=False)
        comparison = compare_models(fine, _run(numbers, plan, used, scenario, is_coarse=True))
        print(json.dumps(comparison, indent=1) if as_json else "\n".join(format_comparison(comparison)))
        raise typer.Exit(1 if fine["violations"] else 0)
    result = _run(numbers, plan, used, scenario, is_coarse=coarse)
    lines = [*format_violations(result), *format_table(result)]
    print(json.dumps(result, indent=1) if as_json else "\n".join(lines))
    raise typer.Exit(1 if result["violations"] else 0)


def _run(seeds: range, plan: WorldPlan, jobs: int, scenario: Scenario, *, is_coarse: bool) -> dict[str, Any]:
    outcomes = simulate_networks(
        seeds, plan, jobs, lambda done: report_progress("seeds", done, len(seeds)), is_coarse=is_coarse
    )
    clear_progress()
    result = merge_outcomes(outcomes)
    for one in result["violations"]:
        one["replay"] = format_network_replay(scenario, plan, one["seed"], is_coarse=is_coarse)
    return {
        "model": "coarse" if is_coarse else "fine",
        "scenario": scenario.value,
        "workers": plan.workers,
        "minutes": plan.minutes,
        **result,
    }
