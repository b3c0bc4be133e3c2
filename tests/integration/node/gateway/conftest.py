"""A running gateway for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.node.gateway.running import RunningGateway, make_gateway, run_in_thread


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """On a socket, before a fake inference."""
    with run_in_thread(make_gateway(tmp_path)) as running:
        yield running
