"""Entry of the `myelin` command: registers every group in one place."""

from __future__ import annotations

import typer

from node.cli import models, nodes

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
app.command("init")(nodes.init_command)
app.command("run")(nodes.run_command)
app.add_typer(nodes.db_app, name="db")
app.add_typer(nodes.wal_app, name="wal")
app.add_typer(nodes.signer_app, name="signer")
app.add_typer(models.app, name="model")


def main() -> None:
    """Run the command line."""
    app()
