"""Many seeds, on every core: their outcomes in the order of the seeds, and their sum."""

from __future__ import annotations

import logging
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from node.sim.consensus.run import Plant, SeedOutcome, simulate

CHUNK = 4


@dataclass
class Summary:
    """The sum of all seeds' outcomes. `violations` is by seed."""

    seeds: int = 0
    violations: dict[int, tuple[str, ...]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    virtual_ms: int = 0

    def add(self, outcome: SeedOutcome) -> None:
        """Add a seed's outcome."""
        self.seeds += 1
        self.counts.update(outcome.counts)
        self.virtual_ms += outcome.virtual_ms
        if outcome.violations:
            self.violations[outcome.plan.seed] = outcome.violations


def simulate_many(
    seeds: range, validators: int, heights: int, jobs: int, progress: Callable[[Summary], bool], plant: Plant
) -> Summary:
    """Run all seeds, or until `progress`, called after each, returns True. `plant` travels to the processes."""
    summary = Summary()
    for outcome in _run(seeds, partial(simulate, validators=validators, heights=heights, plant=plant), jobs):
        summary.add(outcome)
        if progress(summary):
            break
    return summary


def format_replay(command: str, seed: int, validators: int, heights: int) -> str:
    """The command that runs a seed again; `command` takes the options."""
    return f"{command} --seeds 1 --start {seed} --validators {validators} --heights {heights}"


def _run(seeds: range, one: Callable[[int], SeedOutcome], jobs: int) -> Iterator[SeedOutcome]:
    if jobs == 1:
        with _keep_quiet():
            yield from map(one, seeds)
        return
    processes = multiprocessing.get_context("spawn")
    with processes.Pool(jobs, initializer=logging.disable, initargs=(logging.CRITICAL,)) as pool:
        yield from pool.imap(one, seeds, chunksize=CHUNK)


@contextmanager
def _keep_quiet() -> Iterator[None]:
    """Silence the log: simulated nodes log like real ones, thousands of times."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
