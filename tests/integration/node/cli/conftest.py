"""One running node for all commands of a module, and the command line inside the test's process."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from tests.integration.node.processes import REPOSITORY, START_TIMEOUT_S, NodeDirectory


@dataclass
class Cli:
    """Runs `myelin` with a key directory and a node. In this process: starting Python costs more than the command."""

    keys: Path
    url: str

    def run(self, *arguments: str, typed: str = "") -> Result:
        """Whatever comes of it, but never a traceback."""
        group, name = arguments[0], arguments[1]
        argv = list(arguments)
        if group != "query" or name == "account":
            argv += ["--keys", str(self.keys)]
        if group != "keys":
            argv += ["--rpc", self.url]
        done = CliRunner().invoke(app, argv, input=typed)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def ask(self, *arguments: str, typed: str = "") -> Any:
        """Its JSON, when it succeeds."""
        done = self.run(*arguments, "--json", typed=typed)
        assert done.exit_code == 0, done.stderr
        assert done.stderr == "", "with --json there is JSON alone"
        return json.loads(done.stdout)

    def show(self, *arguments: str, typed: str = "") -> str:
        """Its text, when it succeeds."""
        done = self.run(*arguments, typed=typed)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def refuse(self, *arguments: str, typed: str = "", status: int = 1) -> dict[str, Any]:
        """What it says of an error, which is the same as text and as JSON."""
        done = self.run(*arguments, "--json", typed=typed)
        assert done.exit_code == status, (done.stdout, done.stderr)
        assert done.stdout == ""
        found: dict[str, Any] = json.loads(done.stderr)
        return found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeDirectory]:
    """A node with blocks every 200 ms."""
    directory = NodeDirectory.init(tmp_path_factory.mktemp("cli") / "node")
    with directory.log.open("ab") as log:
        process = subprocess.Popen(directory.argv(), stdout=log, stderr=log, cwd=REPOSITORY)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _has_block(directory.url):
            assert process.poll() is None, directory.log.read_text()
            assert time.monotonic() < deadline, directory.log.read_text()
        yield directory
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)
    assert "Traceback" not in directory.log.read_text(), directory.log.read_text()


@pytest.fixture
def cli(tmp_path: Path, node: NodeDirectory) -> Cli:
    """The command line, an empty key directory, the module's node."""
    return Cli(tmp_path / "keys", node.url)


def _has_block(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health", timeout=1.0).json()["height"] > 0)
    except (httpx.HTTPError, ValueError, KeyError):
        time.sleep(0.05)
        return False
