"""A whole report: every scenario wanted, over seeds, on as many processes as are allowed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from node.sim.economy import report
from node.sim.economy.compare import Baselines, Comparison, EconomyRun, compare, run_market
from node.sim.economy.plan import EconomyPlan, build_chain_params
from node.sim.economy.scenarios import DEVIATIONS, EconomyScenario
from node.sim.economy.supply import measure_roles, project_supply
from proto_specs.types.common import NMYL_PER_MYL

SUPPLY_YEARS = 40
GENESIS_SUPPLY_MYL = 100_000_000
Job = tuple[EconomyScenario, int]


@dataclass(frozen=True, slots=True)
class EconomyTask:
    """What to simulate. With `is_sweep` every strength of a scenario, else its usual one."""

    plan: EconomyPlan
    scenarios: tuple[EconomyScenario, ...]
    seeds: tuple[int, ...]
    jobs: int = 1
    is_sweep: bool = False

    def list_strengths(self) -> list[Job]:
        """What is to be compared, in order."""
        found: list[Job] = []
        for one in self.scenarios:
            strengths = DEVIATIONS[one].strengths
            found += [(one, strength) for strength in (sorted(strengths) if self.is_sweep else strengths[:1])]
        return found


def simulate_economy(task: EconomyTask, told: Callable[[int, int], None]) -> dict[str, Any]:
    """The report. The same task gives the same one, to the byte. `told` hears of (seeds done, seeds)."""
    jobs = task.list_strengths()
    by_job: dict[Job, list[Comparison]] = {one: [] for one in jobs}
    alone: list[EconomyRun] = []
    for done, (comparisons, on_fees) in enumerate(_run_seeds(task, jobs), start=1):
        for one in comparisons:
            by_job[one.scenario, one.strength].append(one)
        alone.append(on_fees)
        told(done, len(task.seeds))
    honest = next(iter(by_job.values()))[0].honest
    burned = (honest.burned_fees + honest.burned_shares) // max(1, honest.blocks)
    staking = build_chain_params(task.plan).staking
    supply = project_supply(staking, GENESIS_SUPPLY_MYL * NMYL_PER_MYL, burned, SUPPLY_YEARS)
    roles = measure_roles(replace(task.plan, has_emission=False), alone[0])
    return {
        "params_of": task.plan.params_of.value,
        "epochs": task.plan.epochs,
        "seeds": list(task.seeds),
        **report.describe_plan(task.plan),
        "scenarios": [report.summarize_comparisons(one) for one in by_job.values()],
        "honest": report.describe_run(honest),
        "without_emission": report.describe_roles(roles),
        "supply": report.describe_supply(supply),
    }


def _run_seeds(task: EconomyTask, jobs: Sequence[Job]) -> Iterator[tuple[list[Comparison], EconomyRun]]:
    one = partial(_run_seed, task.plan, tuple(jobs))
    if task.jobs == 1 or len(task.seeds) == 1:
        yield from map(one, task.seeds)
        return
    with multiprocessing.get_context("spawn").Pool(min(task.jobs, len(task.seeds))) as pool:
        yield from pool.imap(one, task.seeds)


def _run_seed(plan: EconomyPlan, jobs: tuple[Job, ...], seed: int) -> tuple[list[Comparison], EconomyRun]:
    baselines = Baselines()
    found = [compare(scenario, plan, seed, strength, baselines) for scenario, strength in jobs]
    return found, run_market(replace(plan, has_emission=False), seed)
