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
    assert run["audit"]["accounts"] >= 20
    assert run["audit"]["issuance"] > 0
    assert found["whole_path"]["median"] > 0
    stages = found["stages"]["node"]
    assert stages["admission_checks"]["entries"] == 1_000
    assert {"execution", "state_root", "history", "leveldb_write", "mempool", "block_proposing"} <= stages.keys()
    assert found["execution"]["median_per_s"] > 0
    assert found["signatures"]["all"]["per_s"] > 0
