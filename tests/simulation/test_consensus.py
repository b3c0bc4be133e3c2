"""Whole nodes on virtual time: honest code survives its seeds, broken code does not, a seed is the same every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from functools import partial

import pytest

from node.sim.consensus.byzantine import Behaviour
from node.sim.consensus.many import Summary, simulate_many
from node.sim.consensus.plan import make_plan
from node.sim.consensus.run import simulate
from tests.simulation.bugs import Bug, plant

SEEDS = range(24)
HEIGHTS = 20
BUG_SEEDS_MAX = 1_000


def run(seeds: range, bug: Bug | None = None, heights: int = HEIGHTS) -> Summary:
    planted = nullcontext if bug is None else partial(plant, bug)
    return simulate_many(seeds, 4, heights, 1, lambda summary: bug is not None and bool(summary.violations), planted)


def test_honest_nodes_agree_and_go_on_whatever_befalls_them() -> None:
    summary = run(SEEDS)
    assert summary.violations == {}
    assert summary.seeds == len(SEEDS)
    for fault in (
        "lost",
        "cut off",
        "delayed",
        "doubled",
        "flapped",
        "clock jumps",
        "crashes",
        "partitions",
        "transfers",
    ):
        assert summary.counts[fault] > 0, f"no {fault}: the simulation is too kind"


def test_plans_hold_every_behaviour_and_never_too_many_liars() -> None:
    plans = [make_plan(seed) for seed in range(300)]
    found = Counter(one for plan in plans for one in plan.byzantine)
    assert set(found) == set(Behaviour)
    assert all(3 * len(plan.byzantine) < plan.validators for plan in plans)


@pytest.mark.parametrize(
    ("bug", "near"),
    [(Bug.QUORUM, 16), (Bug.NO_LOCK, 551), (Bug.NO_VALID_VALUE, 0), (Bug.SIGN_BEFORE_PERSIST, 0)],
    ids=lambda one: str(getattr(one, "value", one)),
)
def test_a_planted_bug_is_found(bug: Bug, near: int) -> None:
    """`near` is where to begin, to be quick: of the first thousand seeds each bug is found by one at least."""
    summary = run(range(near, near + BUG_SEEDS_MAX), bug)
    (seed,) = summary.violations
    assert simulate(seed, 4, HEIGHTS).violations == (), "the code without the bug stands that seed"


def test_seven_validators_of_whom_two_lie() -> None:
    seeds = [seed for seed in range(60) if len(make_plan(seed, 7).byzantine) == 2][:2]
    assert seeds
    for seed in seeds:
        assert simulate(seed, 7, 8).violations == ()


def test_a_seed_gives_the_same_in_every_process() -> None:
    """Also where sets and dicts are hashed otherwise: nothing may depend on that."""
    code = "import logging; logging.disable(50); from node.sim.consensus import run; "
    code += "print(run.simulate(7, 4, 8).fingerprint)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert len(found) == 1
    assert simulate(7, 4, 8).fingerprint in found.pop()


def test_the_command_says_how_to_replay_and_fails() -> None:
    argv = [sys.executable, "-m", "tests.simulation.planted", "sign-before-persist", "--jobs", "1", "--json"]
    done = subprocess.run([*argv, "--seeds", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    (found,) = json.loads(done.stdout)["violations"]
    assert "before it was on disk" in found["violations"][0]
    replay = found["replay"].removeprefix("python -m tests.simulation.planted ").split()
    again = subprocess.run([*argv[:3], *replay, "--jobs", "1", "--json"], capture_output=True, text=True, check=False)
    assert again.returncode == 1, again.stderr
    assert json.loads(again.stdout)["violations"] == [found]


def test_without_a_bug_the_command_is_the_users_own() -> None:
    argv = [sys.executable, "-m", "node.cli.main", "sim", "consensus", "--seeds", "1", "--jobs", "1", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["violations"] == []
