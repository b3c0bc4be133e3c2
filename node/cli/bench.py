"""`myelin bench`: runs the benchmarks in `benchmarks/` of a checkout."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from node.cli.checkout import find_in_checkout
from node.cli.options import JsonOption

bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks, side by side with a peer (from a checkout).")


@bench_app.command()
def chain(
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run of a minute, without the peer.")] = False,
) -> None:
    """Transfers a second over the whole path, against injectived; execution, state root, signatures, memory."""
    _run("benchmarks.chain", as_json=as_json, quick=quick)


@bench_app.command()
def sync(
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run of a few blocks.")] = False,
) -> None:
    """Blocks a second that a new node takes over from its peers."""
    _run("benchmarks.sync", as_json=as_json, quick=quick)


def _run(module: str, *, as_json: bool, quick: bool) -> None:
    root = find_in_checkout("benchmarks")
    options = (["--json"] if as_json else []) + (["--quick"] if quick else [])
    raise typer.Exit(subprocess.run([sys.executable, "-m", module, *options], cwd=root, check=False).returncode)
