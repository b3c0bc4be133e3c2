"""What a path is chosen by is said in words, wherever somebody asks."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from inference.routing import Prefer
from node.cli.main import app


@pytest.mark.parametrize("command", [["infer", "Hi."], ["chat"], ["gateway", "run", "--account", "dev:client"]])
def test_another_word_is_refused_with_those_that_are_meant(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--prefer", "dear"], env={"NO_COLOR": "1", "COLUMNS": "200"})
    assert done.exit_code == 2
    assert all(repr(str(one)) in done.output for one in Prefer)
