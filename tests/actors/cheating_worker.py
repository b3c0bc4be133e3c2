"""Entry of the demo's dishonest worker: the arguments of `myelin worker run` after the name of the cheat."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import typer

from node.cli import workers
from node.cli.failing import end_in_one_line
from tests.actors.cheating import DemoCheat, make_cheating_loader


def main() -> None:
    """`python -m tests.actors.cheating_worker CHEAT [options of worker run]`."""
    cheat = DemoCheat(sys.argv.pop(1))
    with tempfile.TemporaryDirectory(prefix="myelin-cheat-") as workspace:
        workers.set_loader(make_cheating_loader(cheat, Path(workspace)))
        app = typer.Typer()
        app.command()(workers.run_command)
        with end_in_one_line(lambda: False):
            app()


if __name__ == "__main__":
    main()
