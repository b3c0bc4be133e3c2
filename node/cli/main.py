"""Entry of the `myelin` command: a table of all commands; it loads only the module of the command that runs.

A validator that loaded the inference engine for the sake of `myelin infer` would hold 80 MB that it never uses.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from node.cli.failing import FailingGroup, run


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command of the top level: its module in node.cli, its name there, and its line in `--help`."""

    module: str
    name: str
    help: str


COMMANDS = {
    "demo": CommandEntry("demo", "demo_command", "One validator, three workers, one paid and verified request."),
    "localnet": CommandEntry("localnets", "app", "A whole network on this machine, faults on demand, and load."),
    "init": CommandEntry("nodes", "init_command", "Make a node's directory: chain spec, and a signer's history."),
    "run": CommandEntry("nodes", "run_command", "Run a node until SIGINT or SIGTERM."),
    "keys": CommandEntry("keys", "app", "Make, import, list and show keys."),
    "tx": CommandEntry("tx", "app", "Sign and send transactions, or only say what they would cost."),
    "query": CommandEntry("query", "app", "Ask a node about the chain; check proofs of its state."),
    "light": CommandEntry(
        "lights", "light_command", "Verify a node's newest block, and accounts, without trusting it."
    ),
    "db": CommandEntry("databases", "db_app", "The node's database."),
    "snapshot": CommandEntry("snapshots", "snapshot_app", "The state of the chain as files."),
    "wal": CommandEntry("nodes", "wal_app", "The consensus write-ahead log."),
    "signer": CommandEntry("nodes", "signer_app", "The signer's history."),
    "model": CommandEntry("models", "app", "Import checkpoints, list, fetch and verify them, put manifests on chain."),
    "worker": CommandEntry("workers", "app", "Serve layers of a model and earn; see how it goes."),
    "gateway": CommandEntry(
        "gateways", "app", "Answer OpenAI's and Anthropic's clients; make keys, see what they use."
    ),
    "bench": CommandEntry("bench", "bench_app", "Benchmarks, side by side with a peer (from a checkout)."),
    "sim": CommandEntry("sims", "app", "Simulations: whole nodes on virtual time under a seed."),
    "infer": CommandEntry("ask", "infer_command", "Ask once: escrow, answer, settlement, verification, payment."),
    "chat": CommandEntry("chat", "chat_command", "Talk with a model; each answer is paid and verified."),
}
"""The commands in the order of `--help`, which imports none of their modules."""


class LazyGroup(FailingGroup):
    """A group that imports a command's module only when the command runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, after importing its module."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        found = getattr(importlib.import_module(f"node.cli.{entry.module}"), entry.name)
        if isinstance(found, typer.Typer):
            command: Any = typer.main.get_group(found)
        else:
            alone = typer.Typer(pretty_exceptions_enable=False)
            alone.command(cmd_name)(found)
            command = typer.main.get_command(alone)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help from the table alone."""
        shown: dict[str, Any] = {name: TyperCommand(name, help=entry.help) for name, entry in COMMANDS.items()}
        index = TyperGroup(name=self.name, commands=shown, params=self.params, help=self.help)
        index.format_help(ctx, formatter)


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Verified, paid, peer-to-peer inference: the chain's node, its workers and its wallet."""


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
