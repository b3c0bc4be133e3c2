"""The command line inside the test's process: cheap key files in a directory of its own, input that is no terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from node.cli.main import app
from node.keys.keystore import Keystore

QUICK_N = 1 << 4


@dataclass
class Cli:
    """Runs `myelin` with a key directory."""

    keys: Path

    def run(self, *arguments: str, typed: str = "") -> Result:
        """Whatever comes of it, but never a traceback."""
        done = CliRunner().invoke(app, [*arguments, "--keys", str(self.keys)], input=typed)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def ask(self, *arguments: str, typed: str = "") -> Any:
        """Its JSON, when it succeeds."""
        done = self.run(*arguments, "--json", typed=typed)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    def refuse(self, *arguments: str, typed: str = "", status: int = 1) -> str:
        """Its one line of complaint, when it fails with that status."""
        done = self.run(*arguments, typed=typed)
        assert done.exit_code == status, (done.stdout, done.stderr)
        assert done.stdout == ""
        assert status != 1 or done.stderr.count("\n") == 1, done.stderr
        return done.stderr


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    assert Keystore.save.__kwdefaults__ is not None
    monkeypatch.setitem(Keystore.save.__kwdefaults__, "scrypt_n", QUICK_N)
    return Cli(tmp_path / "keys")
