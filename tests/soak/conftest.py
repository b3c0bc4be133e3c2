"""How long, how fast and under which seed: `make soak ARGS="--minutes 5 --seed 7"`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the localnet under faults."""
    group = parser.getgroup("soak")
    group.addoption("--minutes", type=float, default=30.0, help="how long the localnet is under faults")
    group.addoption("--seed", type=int, default=None, help="which faults: the seed an earlier run printed")
    group.addoption("--tps", type=float, default=100.0, help="transfers a second meanwhile")
