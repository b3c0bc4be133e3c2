"""One node a test process for all tests that only ask it things, whatever folder they are in."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.node.processes import REPOSITORY, START_TIMEOUT_S, NodeDirectory


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeDirectory]:
    """A running node with blocks every 200 ms."""
    directory = NodeDirectory.init(tmp_path_factory.mktemp("shared") / "node")
    with directory.log.open("ab") as log:
        process = subprocess.Popen(directory.argv(), stdout=log, stderr=log, cwd=REPOSITORY)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_healthy(directory.url):
            assert process.poll() is None, directory.log.read_text()
            assert time.monotonic() < deadline, directory.log.read_text()
        yield directory
        assert process.poll() is None, directory.log.read_text()
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)
    assert "Traceback" not in directory.log.read_text(), directory.log.read_text()


def _is_healthy(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health", timeout=1.0).json()["height"] > 0)
    except (httpx.HTTPError, ValueError, KeyError):
        time.sleep(0.05)
        return False
