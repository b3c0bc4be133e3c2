"""The benchmark still runs: its smoke run starts a real chain, loads it, and counts on the chain what it sent."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_the_smoke_run_measures_everything_of_ours() -> None:
    argv = [sys.executable, "-m", "node.cli.main", "bench", "chain", "--quick", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (run,) = found["whole_path"]["runs"]
    assert sum(run["blocks"]) == run["transfers"] == 1_000
    assert found["whole_path"]["median"] > 0
    assert found["execution"]["median_per_s"] > 0
    assert found["signatures"]["all"]["per_s"] > 0
