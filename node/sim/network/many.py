"""Many seeds of a network, on every core: their outcomes in the order of the seeds."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from functools import partial

from node.sim.network.coarse import simulate_coarsely
from node.sim.network.report import NetworkOutcome
from node.sim.network.run import simulate_network
from node.sim.network.world import Scenario, WorldPlan


def simulate_networks(
    seeds: range, plan: WorldPlan, jobs: int, told: Callable[[int], None], *, is_coarse: bool
) -> list[NetworkOutcome]:
    """Run all seeds; `told` is given how many are done."""
    one = partial(simulate_coarsely if is_coarse else simulate_network, plan=plan)
    outcomes = []
    processes = multiprocessing.get_context("spawn")
    with processes.Pool(min(jobs, len(seeds)), initializer=logging.disable, initargs=(logging.CRITICAL,)) as pool:
        for outcome in pool.imap(one, seeds):
            outcomes.append(outcome)
            told(len(outcomes))
    return outcomes


def format_network_replay(scenario: Scenario, plan: WorldPlan, seed: int, *, is_coarse: bool) -> str:
    """The command that runs a seed again."""
    kind = " --coarse" if is_coarse else ""
    return (
        f"myelin sim network --seeds 1 --start {seed} --scenario {scenario.value} --workers {plan.workers}"
        f" --minutes {plan.minutes}{kind}"
    )
