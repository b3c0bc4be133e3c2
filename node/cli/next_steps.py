"""What to try on a network that was just brought up: commands that work when they are pasted."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from node.cli.models_dir import get_models_dir

PROGRAM = "myelin"
DEV_PAYER = "dev:client"


def make_next_steps(rpc: str, base: Path, models: Path) -> list[str]:
    """A question, and a gateway with its chat page, for the network under `base` whose node answers at `rpc`."""
    stored = [] if models.absolute() == get_models_dir(None).absolute() else ["--models", str(models)]
    infer = ["infer", "Tell me a joke.", "--rpc", rpc, *stored]
    gateway = [
        "gateway",
        "run",
        "--account",
        DEV_PAYER,
        "--open",
        "--rpc",
        rpc,
        "--base",
        str(base / "gateway"),
        *stored,
    ]
    return [
        f"{_get_program()} {shlex.join(infer)}",
        f"{_get_program()} {shlex.join(gateway)}   # OpenAI's API and a chat page: http://127.0.0.1:8080/",
    ]


def _get_program() -> str:
    """How this program was called."""
    called = Path(sys.argv[0]).absolute()
    if called.name != PROGRAM:
        return f"{shlex.quote(sys.executable)} -m node.cli.main"
    found = shutil.which(PROGRAM)
    if found is not None and Path(found) == called:
        return PROGRAM
    here = Path.cwd()
    return shlex.quote(
        str(called.relative_to(here) if called.is_relative_to(here) and called.parent != here else called)
    )
