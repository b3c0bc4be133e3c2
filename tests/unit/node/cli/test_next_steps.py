"""The commands to try are whole: they name the network that was brought up."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from node.cli.models_dir import get_models_dir
from node.cli.next_steps import make_next_steps

RPC = "http://127.0.0.1:4000"


def make_words(base: Path, models: Path) -> list[str]:
    _, gateway = make_next_steps(RPC, base, models)
    return shlex.split(gateway, comments=True)


def test_a_gateway_on_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv/bin/myelin"), "demo"])
    base = tmp_path / "a net"
    words = make_words(base, get_models_dir(None))
    assert words[:3] == [".venv/bin/myelin", "gateway", "run"]
    assert words[words.index("--rpc") + 1] == RPC
    assert words[words.index("--base") + 1] == str(base / "gateway")
    assert "--models" not in words
    assert make_words(base, tmp_path)[-2:] == ["--models", str(tmp_path)]


def test_without_the_program_the_module_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/main.py"])
    assert make_words(tmp_path, tmp_path)[1:3] == ["-m", "node.cli.main"]
