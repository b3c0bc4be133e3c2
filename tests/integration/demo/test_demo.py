"""The main job as a newcomer runs it: honest work is verified and paid, a cheat is caught, slashed and refunded."""

from __future__ import annotations

import re

import pytest

from tests.integration.demo.conftest import run_demo

pytestmark = pytest.mark.slow


def test_honest_demo_is_verified_and_paid() -> None:
    done = run_demo("--tokens", "40", "--interval-ms", "300")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Paris" in done.stdout
    distances = re.findall(r"PASS, distance (\S+), threshold 8.0e-06", done.stdout)
    assert len(distances) == 3
    assert max(map(float, distances)) < 8e-7, "single rows go through another kernel than the verifier's many"
    assert "verified and paid" in done.stdout
    assert "JSON-RPC: http://127.0.0.1:" in done.stdout


def test_an_answer_survives_the_death_of_a_worker() -> None:
    done = run_demo("--kill", "--interval-ms", "300")
    assert done.returncode == 0, done.stdout + done.stderr
    lost = re.search(
        r"lost  (charlie|eve) after (\d+) tokens \(.+\); (charlie|eve) goes on, \d+\.\d s later", done.stdout
    )
    assert lost is not None, done.stdout
    assert int(lost[2]) > 0
    assert lost[1] != lost[3]
    assert f"{lost[1]} was killed (SIGKILL) in mid-answer" in done.stdout
    assert done.stdout.count("PASS") == 6
    assert "in 2 requests, all verified and paid" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("cheat", "cheater"), [("quantise", 0), ("skip", 1), ("perturb", 2)])
def test_cheat_is_caught_slashed_and_refunded(cheat: str, cheater: int) -> None:
    done = run_demo("--cheat", cheat, "--cheater", str(cheater), "--tokens", "24", "--interval-ms", "300")
    assert done.returncode == 0, done.stdout + done.stderr
    name = ("bob", "charlie", "dave")[cheater]
    assert f"Caught: {name}" in done.stdout
    assert done.stdout.count("FAIL, slashed") == 1
    assert done.stdout.count("PASS") == 2
