"""The command's table of commands: each is there, and none brings in what another one needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from node.cli import main

HEAVY = ("numpy", "onnx", "onnxruntime", "tokenizers", "torch")
NAMES = main.LazyGroup().list_commands(None)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_there_under_its_name(name: str) -> None:
    done = CliRunner().invoke(main.app, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert f" {name} " in done.output.splitlines()[1]


def test_all_are_listed_and_others_are_refused() -> None:
    listed = CliRunner().invoke(main.app, ["--help"]).output
    assert all(f"│ {name} " in listed for name in NAMES)
    assert CliRunner().invoke(main.app, ["runn"]).exit_code == 2


def test_a_node_holds_no_inference_engine_in_memory() -> None:
    script = "import sys, node.cli.main, node.cli.nodes, node.full.service\n"
    script += f"print([one for one in {HEAVY!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
