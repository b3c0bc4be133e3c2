"""Programs that are not ours, of pinned versions, installed once into the user's cache; without an index tests skip."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inference.model.fetch import cache_dir

NPM_OPENAI = "openai@6.49.0"
PIP_PROGRAMS = ("llm==0.36", "litellm==1.110.2")
INSTALL_S_MAX = 240


def install_npm() -> Path:
    """The directory whose `node_modules` has the package."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is not installed")
    place = cache_dir() / "clients" / NPM_OPENAI.replace("@", "-")
    argv = [npm, "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000", NPM_OPENAI]
    _install(place, [argv])
    return place


def install_pip() -> Path:
    """The `bin` directory of an environment with the programs."""
    place = cache_dir() / "clients" / "-".join(one.replace("==", "-") for one in PIP_PROGRAMS)
    python = str(place / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=20"]
    _install(place, [[sys.executable, "-m", "venv", str(place)], [*pip, *PIP_PROGRAMS]])
    return place / "bin"


def _install(place: Path, steps: list[list[str]]) -> None:
    mark = place / "complete"
    if mark.exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for argv in steps:
        try:
            done = subprocess.run(argv, cwd=place, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{argv[-1]} was not installed within {INSTALL_S_MAX} s")
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            pytest.skip(f"{argv[-1]} cannot be installed here: {''.join(said):.200}")
    mark.touch()
