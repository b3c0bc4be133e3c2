"""`myelin model`: import checkpoints into shard storage, list what is there, put manifests on chain."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from inference.errors import ModelFormatError, StoreError
from inference.model.fetch import SAMPLES, cache_dir, fetch_sample
from inference.model.graph.shard import ShardRange
from inference.model.importing import import_model
from inference.model.store import ShardStore
from node.cli.bars import make_progress
from node.cli.calibrations import calibrate_command
from node.cli.connect import DEFAULT_RPC, RpcOption, open_account, open_connection
from node.cli.keyring import KEY_HELP, KeysOption, parse_hash
from node.cli.model_checks import check_command, score_command
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import JsonOption, parse_layers
from node.cli.plans import plan_command
from node.cli.running import run_until_signalled
from node.cli.stored_models import find_model
from node.p2p.circuits import open_roaming_host
from node.transfer.shards.fetch import ShardFetcher, connect_any, select_units
from proto_specs.codec import encode
from proto_specs.errors import ExitStatus
from proto_specs.types.calls import RegisterModel
from proto_specs.types.manifest import Manifest, ServiceClass, Unit, WireDtype, compute_model_id

app = typer.Typer(no_args_is_help=True, help=__doc__)

DEFAULT_SAMPLE = "smollm2"


def parse_class(text: str) -> ServiceClass:
    """The class of service of such a name. Raises ModelFormatError."""
    try:
        return {one.name.lower(): one for one in ServiceClass}[text]
    except KeyError:
        raise ModelFormatError(f"service class {text!r:.40} is unknown: use exact or fast") from None


def fetch_with_progress(name: str, console: Console) -> Path:
    """The file of a sample model, fetched once per machine."""
    with make_progress(console) as progress:
        fetching = progress.add_task("fetch", total=None)

        def show(done: int, total: int) -> None:
            progress.update(fetching, completed=done, total=total)

        return fetch_sample(SAMPLES[name], cache_dir(), show)


def import_sample(models: Path, console: Console) -> Manifest:
    """Fetch SmolLM2-135M-Instruct (once per machine) and import it (once per store), with progress bars."""
    path = fetch_with_progress(DEFAULT_SAMPLE, console)
    with make_progress(console) as progress:
        return _import(path, models, "bf16", SAMPLES[DEFAULT_SAMPLE].model, progress)


@app.command("import")
def import_command(
    source: Annotated[
        str, typer.Argument(help="A GGUF file, a Hugging Face directory, or a sample model: smollm2, gemma3-270m.")
    ],
    models: ModelsOption = None,
    wire_dtype: Annotated[str, typer.Option(help="bf16, fp16 or fp32 between stages.")] = "bf16",
    name: Annotated[str | None, typer.Option(help="Name of the model (default: the file's own).")] = None,
    service_class: Annotated[
        str, typer.Option(help="exact, or fast: int8 activations, quicker and checked coarsely.")
    ] = "exact",
    calibrate: Annotated[
        bool, typer.Option(help="Run it once, layer by layer, for its golden windows and the ranges of its rows.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Import a checkpoint into per-layer shard storage and print its model id."""
    console = Console(stderr=True)
    root = get_models_dir(models)
    kind = parse_class(service_class)
    path = Path(source)
    if source in SAMPLES:
        path, name = fetch_with_progress(source, console), name or SAMPLES[source].model
    with make_progress(console) as progress:
        manifest = _import(path, root, wire_dtype, name, progress, calibrate, kind)
    model_id = f"0x{compute_model_id(manifest).hex()}"
    if as_json:
        print(json.dumps({"model": model_id, "name": manifest.name, "layers": manifest.architecture.layers}))
    else:
        print(f"{manifest.name}: {manifest.architecture.layers} layers, model id {model_id}")


@app.command("list")
def list_command(models: ModelsOption = None, as_json: JsonOption = False) -> None:
    """List the models in shard storage."""
    store = ShardStore(get_models_dir(models))
    found, damaged = [], []
    for one in store.list_models():
        try:
            found.append((one, store.load_manifest(one)))
        except StoreError as error:  # one that cannot be read hides no other
            damaged.append(str(error))
    if damaged and not found:
        raise StoreError(damaged[0])
    for said in damaged:
        print(f"left out: {said}", file=sys.stderr)
    if as_json:
        print(json.dumps([_describe(one, manifest) for one, manifest in found]))
        return
    table = Table("model", "name", "layers", "class", "wire", "size", box=None)
    for one, manifest in found:
        size = sum(unit.bytes_total for unit in manifest.units)
        kind, wire = ServiceClass(manifest.service_class).name, WireDtype(manifest.wire_dtype).name
        layers = str(manifest.architecture.layers)
        table.add_row(one.hex()[:16], manifest.name, layers, kind.lower(), wire.lower(), f"{size / 1e6:.0f} MB")
    Console().print(table)


def _describe(model: bytes, manifest: Manifest) -> dict[str, object]:
    return {
        "model": f"0x{model.hex()}",
        "name": manifest.name,
        "family": manifest.architecture.family,
        "layers": manifest.architecture.layers,
        "service_class": ServiceClass(manifest.service_class).name.lower(),
        "wire_dtype": WireDtype(manifest.wire_dtype).name.lower(),
        "bytes": sum(unit.bytes_total for unit in manifest.units),
    }


@app.command("register")
def register_command(
    model: Annotated[str, typer.Argument(help="Name, id, or the start of an id.")],
    account: Annotated[str, typer.Option(help=f"Account that pays the fee. {KEY_HELP}")],
    rpc: RpcOption = DEFAULT_RPC,
    models: ModelsOption = None,
    keys: KeysOption = None,
) -> None:
    """Put a stored model's manifest on chain, so that workers and clients can agree on it."""
    store = ShardStore(get_models_dir(models))
    model_id = find_model(store, model)
    trio.run(_register, encode(store.load_manifest(model_id)), rpc, account, keys)
    print(f"model 0x{model_id.hex()} is on chain")


async def _register(manifest: bytes, rpc: str, name: str, keys: Path | None) -> None:
    async with open_account(rpc, name, keys) as (account, _):
        await account.execute(RegisterModel(manifest))


@app.command("fetch")
def fetch_command(
    model: Annotated[str, typer.Argument(help="Model id, as it is on chain.")],
    layers: Annotated[
        str | None, typer.Option(help="START:END, the layers that a worker will serve (default: the whole model).")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of a worker to fetch from, besides those on chain: /ip4/A/tcp/P/p2p/ID. Repeatable."
        ),
    ] = None,
    rpc: RpcOption = DEFAULT_RPC,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model's weights from the workers that serve it, verified by its id. Cut off, it goes on where it was."""
    wanted, model_id = None if layers is None else parse_layers(layers), parse_hash(model)
    store = ShardStore(get_models_dir(models))
    units = trio.run(run_until_signalled, _fetch, store, model_id, wanted, tuple(peer or ()), rpc)
    if units is None:
        raise typer.Exit(ExitStatus.INTERRUPTED)
    size = sum(unit.bytes_total for unit in units)
    if as_json:
        print(json.dumps({"model": f"0x{model_id.hex()}", "units": len(units), "bytes": size}))
    else:
        print(f"{len(units)} units, {size / 1e6:.0f} MB, are here: {store.get_directory(model_id)}")


async def _fetch(
    store: ShardStore, model: bytes, layers: tuple[int, int] | None, peers: tuple[str, ...], url: str
) -> tuple[Unit, ...]:
    async with open_connection(url) as connection:
        manifest = await connection.chain.get_manifest(model)
        if manifest is None:
            raise StoreError(f"model {model.hex()} is not registered on this chain: see `myelin query models`")
        units = select_units(manifest, layers)
        if layers is not None:  # who will serve them must be able to
            ShardRange(manifest, *layers).check()
        store.save_manifest(manifest)
        serving = [one for one in await connection.chain.list_workers(model) if not one.is_leaving]
    with make_progress(Console(stderr=True)) as progress:
        fetching = progress.add_task("fetch", total=None)
        async with open_roaming_host(os.urandom(32), []) as (host, _):
            reached = await connect_any(host, [one.addresses for one in serving] + [(one,) for one in peers])
            fetcher = ShardFetcher(host, reached, store, model)
            await fetcher.fetch(units, lambda done, total: progress.update(fetching, completed=done, total=total))
    return units


@app.command("verify")
def verify_command(
    model: Annotated[str, typer.Argument(help="Name, id, or the start of an id.")], models: ModelsOption = None
) -> None:
    """Hash every stored unit of a model against its manifest; the first that differs is named."""
    store = ShardStore(get_models_dir(models))
    model_id = find_model(store, model)
    manifest = store.load_manifest(model_id)
    for unit in manifest.units:
        store.verify_unit(model_id, unit)
    print(f"{manifest.name}: {len(manifest.units)} units are whole")


def _import(
    path: Path,
    models: Path,
    wire_dtype: str,
    name: str | None,
    progress: Progress,
    is_calibrated: bool = True,
    service_class: ServiceClass = ServiceClass.EXACT,
) -> Manifest:
    importing = progress.add_task("import", total=None)

    def show(done: int, total: int) -> None:
        progress.update(importing, completed=done, total=total)

    return import_model(path, models, show, wire_dtype, name, is_calibrated, service_class)


app.command("score")(score_command)
app.command("check")(check_command)
app.command("plan")(plan_command)
app.command("calibrate")(calibrate_command)
