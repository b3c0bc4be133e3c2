"""`--device`: a device that is not here ends the command in one line, before anything is read, loaded or paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.engine import cuda
from node.cli.main import app

WORKER = ("worker", "run", "--model", "none", "--layers", "0:1", "--account", "dev:alice", "--worker", "dev:alice")


def run(*arguments: str) -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, list(arguments))
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done.exit_code, done.output.splitlines()


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A node's directory."""
    assert run("init", "--base", str(tmp_path))[0] == 0
    return str(tmp_path)


@pytest.fixture
def _no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, whichever this is."""

    monkeypatch.setattr(cuda, "DRIVER", "libno-such-driver.so.1")


@pytest.mark.usefixtures("_no_driver")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_cuda_without_a_gpu(base: str, device: str) -> None:
    for command in (WORKER, ("run",)):
        status, lines = run(*command, "--base", base, "--device", device)
        assert status == 1
        assert len(lines) == 1, lines
        assert "cuda:" in lines[0]
        assert "use cpu" in lines[0]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", "", "cuda:1234", "cpu:0"])
def test_devices_that_there_are_not(base: str, device: str) -> None:
    for command in (WORKER, ("run",)):
        status, lines = run(*command, "--base", base, "--device", device)
        assert status == 1
        assert len(lines) == 1, lines
        assert "there is no device" in lines[0]
