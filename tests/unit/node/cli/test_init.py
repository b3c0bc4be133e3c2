"""`myelin init` after one that was cut off, and beside a signer's history that is somebody else's."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from node.cli.main import app


def init(base: Path, validator: str, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["init", "--base", str(base), "--validator", validator, *options])
    return done.exit_code, done.output


def test_an_init_that_was_cut_off_is_ended_by_the_next_one(tmp_path: Path) -> None:
    assert init(tmp_path, "dev:alice")[0] == 0
    history = (tmp_path / "signer.json").read_bytes()
    (tmp_path / "chain.json").unlink()
    assert init(tmp_path, "dev:alice")[0] == 0
    assert (tmp_path / "signer.json").read_bytes() == history, "what was signed is never forgotten"
    assert init(tmp_path, "dev:alice")[0] == 1


def test_anothers_history_is_left_alone(tmp_path: Path) -> None:
    assert init(tmp_path, "dev:alice")[0] == 0
    history = (tmp_path / "signer.json").read_bytes()
    (tmp_path / "chain.json").unlink()
    assert "history of another" in init(tmp_path, "dev:bob")[1]
    assert "another chain" in init(tmp_path, "dev:alice", "--interval-ms", "300")[1]
    assert (tmp_path / "signer.json").read_bytes() == history
    assert not (tmp_path / "chain.json").exists()
