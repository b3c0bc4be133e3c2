"""`python -m benchmarks.inference`: our engine and llama.cpp in alternating runs. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from benchmarks.inference.chosen import choose_model
from benchmarks.inference.rounds import GROUPS
from benchmarks.inference.run import Wanted, measure_all
from benchmarks.inference.table import print_found
from node.cli.errors import CliError
from node.cli.failing import end_in_one_line
from node.cli.models_dir import get_models_dir
from proto_specs.errors import ExitStatus


class WrongChoice(CliError):
    """An option of the benchmark makes no sense. The message says what to write."""

    exit_status = ExitStatus.WRONG_USAGE


def main() -> None:
    """Measure; JSON, or tables, on standard output; progress, and an error in one line, on standard error."""
    parser = argparse.ArgumentParser(prog="myelin bench inference", description=__doc__)
    parser.add_argument(
        "model",
        nargs="?",
        help="a GGUF file, a Hugging Face directory, or a stored model's name (default: the sample model)",
    )
    parser.add_argument("--only", default=",".join(GROUPS), help=f"some of {','.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a run of decode")
    parser.add_argument("--shards", type=int, default=1, help="shards of our side, all in one process")
    parser.add_argument("--llama", metavar="PYTHON", help="an interpreter that has llama_cpp")
    parser.add_argument("--models", type=Path, help="shard storage (default: the user's cache)")
    parser.add_argument("--fast", action="store_true", help="our side in the fast class: int8 activations")
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    options = parser.parse_args()
    with end_in_one_line(lambda: options.json):
        wanted = read_wanted(options)
        console = Console(stderr=True)
        chosen = choose_model(options.model, get_models_dir(options.models).absolute(), console, options.fast)
        found = measure_all(chosen, wanted, console)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print_found(found, Console())


def read_wanted(options: argparse.Namespace) -> Wanted:
    """The options, checked. Raises WrongChoice."""
    groups = tuple(one.strip() for one in options.only.split(","))
    for one in groups:
        if one not in GROUPS:
            raise WrongChoice(f"--only {one!r:.40}: choose from {', '.join(GROUPS)}")
    for name in ("rounds", "threads", "tokens", "shards"):
        if getattr(options, name) < 1:
            raise WrongChoice(f"--{name} is at least 1, not {getattr(options, name)}")
    return Wanted(groups, options.rounds, options.threads, options.tokens, options.shards, options.llama)


if __name__ == "__main__":
    main()
