"""The command line inside the test's process, before the node that tests share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from tests.integration.node.processes import NodeDirectory


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


@pytest.fixture
def cli(tmp_path: Path, shared_node: NodeDirectory) -> Cli:
    """The command line, an empty key directory, the shared node."""
    return Cli(tmp_path / "keys", shared_node.url)
