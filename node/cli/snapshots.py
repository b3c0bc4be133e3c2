"""`myelin snapshot`: a chain's state as files, which a node writes and another continues from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from genesis.builder import build_genesis
from genesis.spec import ChainSpec, load_spec, save_spec
from node.cli.errors import CliError
from node.cli.options import DEFAULT_BASE, BaseOption, JsonOption
from node.cli.progress import clear_progress, report_progress
from node.full.settings import NodePaths, NodeRefused
from node.store.snapshot_export import export_snapshot
from node.store.snapshot_format import SnapshotManifest, load_manifest
from node.store.snapshot_import import import_snapshot
from proto_specs.types.chain import compute_block_hash

snapshot_app = typer.Typer(no_args_is_help=True, help="The state of the chain as files.")


@snapshot_app.command("export")
def snapshot_export_command(
    target: Annotated[Path, typer.Argument(help="A new directory.")],
    base: BaseOption = DEFAULT_BASE,
    height: Annotated[int | None, typer.Option(help="A block whose state is kept (default: the last).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the state after a block into a new directory. The node may run meanwhile."""
    paths = NodePaths(base)
    genesis = build_genesis(_load_spec(paths))
    manifest = export_snapshot(paths.database, genesis, target, report_progress, height)
    _show(describe_manifest(manifest), as_json)


@snapshot_app.command("import")
def snapshot_import_command(
    source: Annotated[Path, typer.Argument(help="The snapshot's directory.")],
    base: BaseOption = DEFAULT_BASE,
    chain: Annotated[Path | None, typer.Option(help="The chain spec, where --base has none yet.")] = None,
    trust_hash: Annotated[str | None, typer.Option(help="0x hash of the snapshot's block, from who you trust.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fill a directory without a database from a snapshot, verified up to the state root in its header.

    Trusted are the chain spec and the block hash you name; without one, that no two thirds of the stake at genesis
    have colluded since.
    """
    paths = NodePaths(base)
    spec = _load_spec(paths) if chain is None else load_spec(chain)
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    genesis = build_genesis(spec)
    head = import_snapshot(source, paths.database, genesis, report_progress, _parse_hash(trust_hash))
    if not paths.spec.exists():
        save_spec(spec, paths.spec)
    found = {
        "height": head.height,
        "block": f"0x{head.block_hash.hex()}",
        "state_root": f"0x{head.state_root.hex()}",
    }
    _show({**found, "next": f"myelin run --base {base}"}, as_json)


@snapshot_app.command("info")
def snapshot_info_command(
    source: Annotated[Path, typer.Argument(help="The snapshot's directory.")], as_json: JsonOption = False
) -> None:
    """What a snapshot says it is of. Nothing is verified here: importing does that."""
    _show(describe_manifest(load_manifest(source)), as_json)


def describe_manifest(manifest: SnapshotManifest) -> dict[str, Any]:
    """A manifest's readable fields."""
    return {
        "format": manifest.format,
        "genesis": f"0x{manifest.genesis.hex()}",
        "height": manifest.header.height,
        "block": f"0x{compute_block_hash(manifest.header).hex()}",
        "state_root": f"0x{manifest.header.state_root.hex()}",
        "time_ms": manifest.header.time_ms,
        "items": manifest.items,
        "chunks": len(manifest.chunks),
        "validators": len(manifest.deciders.members),
    }


def _load_spec(paths: NodePaths) -> ChainSpec:
    if not paths.spec.exists():
        raise NodeRefused(f"there is no chain spec in {paths.base}: run `myelin init` first, or name one with --chain")
    return load_spec(paths.spec)


def _parse_hash(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        found = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise CliError(f"{text} is no block hash: write 0x and 64 hex digits") from error
    if len(found) != 32:
        raise CliError(f"{text} is no block hash: write 0x and 64 hex digits")
    return found


def _show(found: dict[str, Any], as_json: bool) -> None:
    clear_progress()
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:12} {value}")
