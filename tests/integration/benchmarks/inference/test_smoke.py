"""The benchmark of inference runs on a tiny model, whole and cut, without the peer; and fails in one line."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.inference import tiny


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_gguf(tmp_path_factory.mktemp("bench") / "tiny.gguf", tiny.make_weights())


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "node.cli.main", "bench", "inference", "--json", *map(str, options)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def measure(file: Path, *options: str) -> dict[str, Any]:
    done = run(file, "--models", file.parent / "models", "--rounds", "2", "--tokens", "4", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is not None, reason="this interpreter has the peer")
def test_an_absent_peer_is_told_with_what_to_do(file: Path) -> None:
    reason = "pip install llama-cpp-python==0.3.36, then --llama PYTHON"
    assert measure(file, "--only", "prefill")["peer"] == {"measured": False, "reason": reason}


def test_everything_of_ours_is_measured(file: Path) -> None:
    found = measure(file, "--shards", "2")
    assert set(found["items"]) == {"decode_64", "decode_512", "copy", "prefill_256", "parallel_16"}
    for item in found["items"].values():
        assert len(item["ours"]["runs"]) == 2
        assert 0 < item["ours"]["min"] <= item["ours"]["median"] <= item["ours"]["max"]
    assert found["settings"] == {"threads": 1, "shards": 2, "rounds": 2, "tokens": 4}
    assert found["parallel_gain"]["ours"] > 0
    assert found["roofline"]["read_gb_per_s"] > 0
    assert 0 < found["roofline"]["ours"]["share"] < 1
    memory = found["memory"]
    assert (memory["layers"], memory["positions"], memory["prefill_rows"]) == ([1, 2], tiny.CONTEXT, 256)
    assert 0 < memory["mib"]["before"]["rss"] < memory["mib"]["prefilled"]["rss"]
    assert memory["load"]["cached_s"] > 0


def test_only_what_is_asked_for_is_measured(file: Path) -> None:
    found = measure(file, "--only", "prefill")
    assert set(found["items"]) == {"prefill_256"}
    assert found["roofline"] is found["memory"] is None


def test_what_exceeds_the_context_is_named(file: Path) -> None:
    found = measure(file, "--only", "decode", "--tokens", str(tiny.CONTEXT - 64))
    assert found["left_out"] == ["decode_512"]
    assert set(found["items"]) == {"decode_64"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["no/such.gguf"], "no file no/such.gguf: check the path"),
        ([__file__], "test_smoke.py is no GGUF file"),
        (["FILE", "--shards", "4"], "tiny has 3 layers: --shards is at most that, not 4"),
        (["FILE", "--llama", "/no/python"], "/no/python: No such file or directory"),
        (["FILE", "--only", "speed"], "choose from decode, copy, prefill, parallel, memory"),
    ],
)
def test_what_cannot_be_measured_is_one_line(file: Path, options: list[str], reason: str) -> None:
    wanted = [str(file) if one == "FILE" else one for one in options]
    done = run("--models", file.parent / "models", "--only", "prefill", *wanted)
    assert done.returncode in (1, 2)
    assert reason in json.loads(done.stderr)["message"]
    assert not done.stdout
