"""Entry of the `myelin` command: registers every group in one place."""

from __future__ import annotations

import typer

from node.cli import ask, bench, databases, demos, keys, models, nodes, query, snapshots, tx, workers

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
app.command("demo")(demos.demo_command)
app.command("init")(nodes.init_command)
app.command("run")(nodes.run_command)
app.add_typer(keys.app, name="keys")
app.add_typer(tx.app, name="tx")
app.add_typer(query.app, name="query")
app.add_typer(databases.db_app, name="db")
app.add_typer(snapshots.snapshot_app, name="snapshot")
app.add_typer(nodes.wal_app, name="wal")
app.add_typer(nodes.signer_app, name="signer")
app.add_typer(models.app, name="model")
app.add_typer(workers.app, name="worker")
app.add_typer(bench.bench_app, name="bench")
app.command("infer")(ask.infer_command)
app.command("chat")(ask.chat_command)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
