"""docs/scale.md against the command: what the page shows is what `myelin model plan` prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.planning.config import PRECISIONS
from inference.planning.workload import Objective
from node.cli import main

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "scale.md").read_text("utf-8")
PLANNING = ROOT / "tests" / "unit" / "inference" / "planning"
ARGUMENTS = (str(PLANNING / "deepseek-r1"), "--fleet", str(PLANNING / "home-24.toml"), "--precision", "q4")
WIDTH = 100


@pytest.mark.parametrize("more", [(), ("--sensitivity",)])
def test_the_page_shows_what_the_command_prints(more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    done = CliRunner().invoke(main.app, ["model", "plan", *ARGUMENTS, *more])
    assert done.exit_code == 0, done.stderr
    printed = [one.rstrip() for one in done.stdout.splitlines()]
    blocks = [block.strip("\n").splitlines() for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)]
    assert printed in blocks


def test_the_page_names_every_choice() -> None:
    assert "`--for " + "\\|".join(one.value for one in Objective) + "`" in PAGE
    assert "`--precision " + "\\|".join(PRECISIONS) + "`" in PAGE
