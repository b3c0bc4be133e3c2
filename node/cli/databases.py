"""`myelin db`: check and repair a node's database."""

from __future__ import annotations

import typer

from node.cli.errors import exit_on_error
from node.cli.nodes import DEFAULT_BASE, BaseOption
from node.service import NodePaths
from node.store.database import repair_database

db_app = typer.Typer(no_args_is_help=True, help="The node's database.")


@db_app.command("repair")
def db_repair_command(base: BaseOption = DEFAULT_BASE) -> None:
    """Rebuild a damaged LevelDB from its readable records. Stop the node first."""
    with exit_on_error():
        repair_database(NodePaths(base).database)
        print("repaired; start the node: it checks the head when it opens the database")
