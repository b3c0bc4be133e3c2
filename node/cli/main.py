"""Entry of the `myelin` command: names every command in one place, and loads the module of the one that is asked for.

A validator that loaded the inference engine for the sake of `myelin infer` would hold 80 MB that it never uses.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer

from node.cli.failing import FailingGroup, run

_COMMANDS = {
    "demo": ("demos", "demo_command"),
    "localnet": ("localnets", "app"),
    "init": ("nodes", "init_command"),
    "run": ("nodes", "run_command"),
    "keys": ("keys", "app"),
    "tx": ("tx", "app"),
    "query": ("query", "app"),
    "light": ("lights", "light_command"),
    "db": ("databases", "db_app"),
    "snapshot": ("snapshots", "snapshot_app"),
    "wal": ("nodes", "wal_app"),
    "signer": ("nodes", "signer_app"),
    "model": ("models", "app"),
    "worker": ("workers", "app"),
    "bench": ("bench", "bench_app"),
    "sim": ("sims", "app"),
    "infer": ("ask", "infer_command"),
    "chat": ("ask", "chat_command"),
}
"""name -> (module of node.cli, its Typer or its function)."""


class LazyGroup(FailingGroup):
    """Commands whose modules are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Imports the command's module."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"node.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            command: Any = typer.main.get_group(found)
        else:
            alone = typer.Typer(pretty_exceptions_enable=False)
            alone.command(cmd_name)(found)
            command = typer.main.get_command(alone)
        command.name = cmd_name
        return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Verified, paid, peer-to-peer inference: the chain's node, its workers and its wallet."""


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
