"""`myelin db`: check and repair a node's database."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer

from genesis.builder import Genesis, build_genesis
from genesis.spec import load_spec
from node.cli.options import DEFAULT_BASE, BaseOption, JsonOption
from node.cli.progress import clear_progress, report_progress
from node.full.settings import NodePaths, NodeRefused
from node.store.chain_store import ChainStore
from node.store.check import Report, check_database
from node.store.database import DatabaseError, repair_database
from proto_specs.errors import ExitStatus

db_app = typer.Typer(no_args_is_help=True, help="The node's database.")


@db_app.command("check")
def db_check_command(base: BaseOption = DEFAULT_BASE, as_json: JsonOption = False) -> None:
    """Verify every block, item, page and kept state. Stop the node first. Exit status 1 when something is wrong."""
    paths, genesis = _load(base)
    _show(check_database(paths.database, genesis, report_progress), as_json)


@db_app.command("repair")
def db_repair_command(
    base: BaseOption = DEFAULT_BASE,
    drop_history: Annotated[
        bool, typer.Option(help="Give up the states behind the head, where they are damaged.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild a damaged LevelDB from its readable records, then check all of it. Stop the node first."""
    paths, genesis = _load(base)
    if not paths.database.exists():
        raise DatabaseError(f"there is no database at {paths.database}: name the node's directory with --base")
    repair_database(paths.database)
    if drop_history:
        store = ChainStore(paths.database, genesis)
        store.forget_history()
        store.close()
    _show(check_database(paths.database, genesis, report_progress), as_json)


def advise(report: Report) -> str:
    """The next step to take after a check."""
    if not report.problems:
        return "everything fits: start the node"
    if report.parts == {"history"}:
        return (
            "the head is whole, states behind it are not: `myelin db repair --drop-history` gives those up, and the "
            "node keeps new ones from then on"
        )
    return (
        "what is wrong cannot be had back from this disk. Move `db` and `consensus.wal` away, then fill the directory "
        "again: `myelin snapshot import` with a snapshot of another node, or sync from peers. Leave signer.json where "
        "it is"
    )


def _load(base: BaseOption) -> tuple[NodePaths, Genesis]:
    paths = NodePaths(base)
    if not paths.spec.exists():
        raise NodeRefused(f"there is no chain spec in {base}: name the node's directory with --base")
    return paths, build_genesis(load_spec(paths.spec))


def _show(report: Report, as_json: bool) -> None:
    clear_progress()
    found = {**dataclasses.asdict(report), "is_whole": not report.problems, "next": advise(report)}
    if as_json:
        print(json.dumps(found))
    else:
        for name in ("height", "blocks", "bodies", "commits", "items", "pages", "states", "changes"):
            print(f"{name:8} {found[name]}")
        for part, problem in report.problems:
            print(f"damaged  {part}: {problem}")
        print(advise(report))
    if report.problems:
        sys.exit(ExitStatus.REFUSED)
