"""`myelin gateway keys` and `usage`: what they print for people and for programs."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from node.cli import main
from node.gateway.accounts.schema import open_database
from node.gateway.accounts.store import get_day
from proto_specs.errors import ExitStatus


def run(base: Path, *words: str) -> Any:
    return CliRunner().invoke(main.app, ["gateway", *words, "--base", str(base)])


def test_an_empty_directory_says_what_to_do(tmp_path: Path) -> None:
    assert "keys create NAME" in run(tmp_path, "keys", "list").stdout
    assert "no requests" in run(tmp_path, "usage").stdout
    assert json.loads(run(tmp_path, "keys", "list", "--json").stdout) == []
    assert json.loads(run(tmp_path, "usage", "--json").stdout) == []


def test_revoke_says_how_many_keys_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(tmp_path, "keys", "create", "alice").exit_code == 0
    done = run(tmp_path, "keys", "revoke", "alice", "--json")
    assert json.loads(done.stdout) == {"revoked": 2}
    assert all(one["revoked"] for one in json.loads(run(tmp_path, "keys", "list", "--json").stdout))


def test_usage_names_the_day_and_the_key(tmp_path: Path) -> None:
    run(tmp_path, "keys", "create", "alice")
    with contextlib.closing(open_database(tmp_path / "gateway.sqlite")) as database:
        database.execute(
            "INSERT INTO usage (key, day, requests, prompt_tokens, generated_tokens, cost) VALUES (1, ?, 2, 30, 4, 5)",
            (get_day(),),
        )
    (row,) = json.loads(run(tmp_path, "usage", "--json").stdout)
    assert row == {
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
        "number": 1,
        "name": "alice",
        "requests": 2,
        "promptTokens": 30,
        "generatedTokens": 4,
        "cost": 5,
    }


def test_a_log_level_that_there_is_not(tmp_path: Path) -> None:
    done = run(tmp_path, "run", "--account", "dev:client", "--open", "--log-level", "LOUD")
    assert done.exit_code == ExitStatus.WRONG_USAGE
    assert "DEBUG, INFO" in done.stderr
