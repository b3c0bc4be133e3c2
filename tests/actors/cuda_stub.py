"""Builds libraries that stand for CUDA's (cuda_stub.c), and runs Python with them in their place.

Only ever in a process of its own: the libraries of a process are chosen when it starts.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROVIDERS = ("libonnxruntime_providers_cuda.so", "libonnxruntime_providers_tensorrt.so")
_SOURCE = Path(__file__).with_suffix(".c")
_FOREIGN = re.compile(r"@(GLIBC|GCC|CXXABI)|^_(?!_cuda)|^Provider_")


def find_missing() -> str:
    """What this machine lacks for it, "" for nothing."""
    for tool in ("gcc", "nm", "readelf"):
        if shutil.which(tool) is None:
            return f"{tool} is not here"
    return "" if all(one.exists() for one in _list_providers()) else "this onnxruntime has no CUDA provider"


def build_stub(folder: Path) -> Path:
    """Puts a library for each that the providers are linked with into `folder`; returns it."""
    wanted: set[str] = set()
    names: set[str] = set()
    for provider in _list_providers():
        for line in _read(["nm", "-D", "--undefined-only", str(provider)]).splitlines():
            symbol = line.split()[-1]
            if not _FOREIGN.search(symbol):
                wanted.add(symbol.partition("@")[0])
        names |= set(re.findall(r"\[(lib(?:cu|nv)\w*\.so[\d.]*)\]", _read(["readelf", "-d", str(provider)])))
    made = set(re.findall(r"(\w+)\(", _SOURCE.read_text()))
    rest = folder / "rest.c"
    rest.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in sorted(wanted - made)))
    whole = folder / "stub.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", whole, _SOURCE, rest], check=True)
    for name in names:
        shutil.copy(whole, folder / name)
    return folder


def run_python(stub: Path, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with these libraries and `given` on standard input; output as text."""
    changed = {**os.environ, "LD_LIBRARY_PATH": str(stub), **environment}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=changed, text=True, input=given, capture_output=True, check=False)


def _list_providers() -> list[Path]:
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    return [Path(spec.origin).parent / "capi" / name for name in PROVIDERS]


def _read(command: list[str]) -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout
