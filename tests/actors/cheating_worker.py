"""A worker whose operator changed the program: `python -m tests.actors.cheating_worker CHEAT [options of worker run]`.

It is `myelin worker run` with another loader. Its operator needs no help from the product for that, and gets none.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import typer

from node.cli import workers
from node.cli.failing import end_in_one_line
from tests.actors.cheating import make_cheating_loader
from tests.actors.doctor import Cheat


def main() -> None:
    """Serve a wrong shard until SIGTERM."""
    cheat = Cheat(sys.argv.pop(1))
    with tempfile.TemporaryDirectory(prefix="myelin-cheat-") as workspace:
        load = make_cheating_loader(cheat, Path(workspace))
        workers.run_worker = partial(workers.run_worker, load=load)  # type: ignore[assignment]
        app = typer.Typer()
        app.command()(workers.run_command)
        with end_in_one_line(lambda: False):
            app()


if __name__ == "__main__":
    main()
