"""`myelin bench`: runs the benchmarks in `benchmarks/` of a checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from node.cli.checkout import find_in_checkout
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import JsonOption

bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks, side by side with a peer (from a checkout).")


@bench_app.command()
def chain(
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run of a minute, without the peer.")] = False,
    only: Annotated[str, typer.Option(help="Some of these.")] = "whole-path,scale,stages,parts,large-state",
) -> None:
    """Transfers a second over the whole path, against injectived; execution, state root, signatures, memory."""
    _run("benchmarks.chain", [*_write_flags(as_json, quick), f"--only={only}"])


@bench_app.command()
def sync(
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run of a few blocks.")] = False,
) -> None:
    """Blocks a second that a new node takes over from its peers."""
    _run("benchmarks.sync", _write_flags(as_json, quick))


@bench_app.command()
def inference(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A GGUF file, a Hugging Face directory, or a stored model's name (default: the sample model)."
        ),
    ] = None,
    only: Annotated[str, typer.Option(help="Some of these.")] = "decode,copy,prefill,parallel,memory",
    rounds: Annotated[int, typer.Option(min=1, help="Alternating runs of each side.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each side.")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a run of decode.")] = 64,
    shards: Annotated[int, typer.Option(min=1, help="Shards of our side, all in one process.")] = 1,
    fast: Annotated[bool, typer.Option("--fast", help="Our side in the fast class.")] = False,
    llama: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="An interpreter that has llama_cpp (default: this one).")
    ] = None,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tokens a second, memory and loading of the engine, against llama.cpp on the same file, in alternating runs."""
    given = {"only": only, "rounds": rounds, "threads": threads, "tokens": tokens, "shards": shards}
    options = [f"--{name}={value}" for name, value in given.items()]
    options.append(f"--models={get_models_dir(models).absolute()}")
    if fast:
        options.append("--fast")
    # The run starts in the checkout's root: what is given from here is named from everywhere.
    if llama is not None:
        options.append(f"--llama={Path(llama).absolute() if '/' in llama else llama}")
    if model is not None:
        options += ["--", str(Path(model).absolute()) if Path(model).exists() else model]
    _run("benchmarks.inference", _write_flags(as_json, False) + options)


@bench_app.command()
def gateway(
    only: Annotated[str, typer.Option(help="Some of these.")] = "http,first,streams,long",
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 5,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """A gateway before a network of its own: streams at once, the first token, a long prompt, the processor's time."""
    options = [f"--only={only}", f"--rounds={rounds}", f"--models={get_models_dir(models).absolute()}"]
    _run("benchmarks.gateway", _write_flags(as_json, False) + options)


@bench_app.command()
def network(
    only: Annotated[str, typer.Option(help="Some of hop,pipeline,petals.")] = "hop,pipeline",
    rounds: Annotated[int, typer.Option(min=1, help="Alternating runs of each side.")] = 5,
    petals: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="An interpreter that has petals 2.2.0.post1, for that part.")
    ] = None,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """A path of worker processes: a hop, three stages against the same shards in one process, two against Petals."""
    options = [f"--only={only}", f"--rounds={rounds}", f"--models={get_models_dir(models).absolute()}"]
    if petals is not None:
        options.append(f"--petals={Path(petals).absolute() if '/' in petals else petals}")
    _run("benchmarks.network", _write_flags(as_json, False) + options)


@bench_app.command()
def verify(
    only: Annotated[
        str, typer.Option(help="Some of these.")
    ] = "wire,commitments,settlement,check,cheats,honest,quantised,adversary",
    windows: Annotated[int, typer.Option(min=1, help="Honest windows to measure.")] = 300_000,
    work: Annotated[Path | None, typer.Option(help="Where measured texts are kept, to go on from.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this file too.")] = None,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Proof of inference: honest windows accused, cheats missed, an adversary's gain, bytes and costs."""
    options = [f"--only={only}", f"--windows={windows}", f"--models={get_models_dir(models).absolute()}"]
    options += [f"--{name}={path.absolute()}" for name, path in (("work", work), ("out", out)) if path is not None]
    _run("benchmarks.verify", _write_flags(as_json, False) + options)


def _write_flags(as_json: bool, quick: bool) -> list[str]:
    return (["--json"] if as_json else []) + (["--quick"] if quick else [])


def _run(module: str, options: list[str]) -> None:
    root = find_in_checkout("benchmarks")
    raise typer.Exit(subprocess.run([sys.executable, "-m", module, *options], cwd=root, check=False).returncode)
