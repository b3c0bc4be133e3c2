"""`myelin demo`: the whole thing on this machine in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console

from node.cli.demo import PROMPT, DemoOptions, run_demo
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.nodes import run_until_signalled
from proto_specs.errors import ExitStatus
from tests.actors.cheating import DemoCheat


def demo_command(
    prompt: Annotated[str, typer.Option(help="What to ask the model.")] = PROMPT,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens to generate.")] = 96,
    cheat: Annotated[DemoCheat | None, typer.Option(help="Make one worker serve a wrong shard.")] = None,
    cheater: Annotated[int, typer.Option(min=0, max=2, help="Which of the three stages cheats.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the network running until Ctrl-C.")] = False,
    interval_ms: Annotated[int, typer.Option(min=50, help="Block interval.")] = 1_000,
    base: Annotated[Path | None, typer.Option(help="Where to put it (default: a temporary directory).")] = None,
    models: ModelsOption = None,
) -> None:
    """One validator, three workers, one paid and verified request. Status 0 only if the chain shows all of it."""
    options = DemoOptions(get_models_dir(models), prompt, tokens, cheat, cheater, keep, base, interval_ms)
    status = trio.run(run_until_signalled, run_demo, options, Console())
    raise typer.Exit(ExitStatus.INTERRUPTED if status is None else status)
