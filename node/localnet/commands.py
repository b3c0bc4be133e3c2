"""Command lines of the processes in a network on this machine, a function for each role. Starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MYELIN = (sys.executable, "-m", "node.cli.main")
WORKER_RUN = (*MYELIN, "worker", "run")
Argv = tuple[str, ...]


def make_run(base: Path, name: str, rpc_port: int, options: Sequence[str] = ()) -> Argv:
    """`myelin run` of a validator with the keys of a development name."""
    keys = ("--validator", f"dev:{name}", "--operator", f"dev:{name}", "--node", f"dev:{name}")
    return (*MYELIN, "run", "--base", str(base), *keys, "--rpc-port", str(rpc_port), *options)


def make_register(model: str, models: Path, rpc_url: str, name: str) -> Argv:
    """`myelin model register`, paid by a development name."""
    return (*MYELIN, "model", "register", model, "--models", str(models), "--rpc", rpc_url, "--account", f"dev:{name}")


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """`myelin worker run` of a development name."""

    name: str
    base: Path
    model: str
    models: Path
    start: int
    end: int
    rpc_url: str

    def make_argv(self, program: Argv = WORKER_RUN, options: Sequence[str] = ()) -> Argv:
        """The command line of `program`, which takes the options of `worker run`."""
        key = f"dev:{self.name}"
        what = ("--model", self.model, "--layers", f"{self.start}:{self.end}", "--models", str(self.models))
        where = ("--base", str(self.base), "--rpc", self.rpc_url)
        return (*program, *what, *where, "--account", key, "--worker", key, "--node", key, *options)
