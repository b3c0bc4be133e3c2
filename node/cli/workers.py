"""`myelin worker`: serve layers of a model and earn; see how it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console
from rich.table import Table

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import WorkerStatus
from inference.engine.device import Device
from inference.engine.ort import require_device
from inference.model.store import ShardStore
from node.cli.amounts import format_myl
from node.cli.connect import DEFAULT_RPC, RpcOption, open_account
from node.cli.keyring import KEY_HELP, KeysOption, load_node_seed, load_signing_key
from node.cli.memory_option import MemoryOption, parse_size, read_memory, require_fitting
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import (
    DeviceOption,
    DraftModelOption,
    DraftsOption,
    JsonOption,
    LogLevelOption,
    RelayOption,
    parse_layers,
)
from node.cli.running import drain_on_signal, setup_logging
from node.cli.stored_models import find_model, find_wanted_model
from node.cli.worker_defaults import (
    DEFAULT_BOND_MYL,
    DEFAULT_DECODE_PRICE,
    DEFAULT_KV_POSITIONS,
    DEFAULT_PREFILL_PRICE,
    BondOption,
    DecodePriceOption,
    KvPositionsOption,
    PrefillPriceOption,
)
from node.cli.worker_plan import plan_command
from node.keys.derivation import KeyKind
from node.p2p.address import decode_multiaddr
from node.p2p.circuits import require_relays
from node.worker.departure import Departure
from node.worker.errors import WorkerRefused
from node.worker.placing import Placer, PlacingPolicy
from node.worker.request_journal import repair_logs
from node.worker.service import WorkerConfig, run_worker
from proto_specs.limits import DRAFT_TOKENS_MAX
from proto_specs.types.common import NMYL_PER_MYL

app = typer.Typer(no_args_is_help=True, help=__doc__)
app.command("plan")(plan_command)


LayersOption = Annotated[
    str | None, typer.Option(help="START:END, END not included (default: those that the network lacks most).")
]


@app.command("run")
def run_command(
    model: Annotated[str, typer.Option(help="Name, id, or the start of an id; the whole id if it is not stored.")],
    base: Annotated[Path, typer.Option("--base", help="The worker's directory.")],
    account: Annotated[str, typer.Option(help=f"Operator's account key. {KEY_HELP}")],
    worker: Annotated[str, typer.Option(help=f"Worker key. {KEY_HELP}")],
    node: Annotated[str | None, typer.Option(help=f"libp2p node key (default: a fresh one). {KEY_HELP}")] = None,
    layers: LayersOption = None,
    memory: MemoryOption = None,
    rpc: RpcOption = DEFAULT_RPC,
    listen: Annotated[
        str | None,
        typer.Option(help="libp2p address to listen at (default: /ip4/127.0.0.1/tcp/0; none where there is --relay)."),
    ] = None,
    relay: RelayOption = None,
    bond: BondOption = DEFAULT_BOND_MYL,
    prefill_price: PrefillPriceOption = DEFAULT_PREFILL_PRICE,
    decode_price: DecodePriceOption = DEFAULT_DECODE_PRICE,
    kv_positions: KvPositionsOption = DEFAULT_KV_POSITIONS,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
    device: DeviceOption = "cpu",
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running requests get when it is stopped.")] = 60.0,
    drafts: DraftsOption = DRAFT_TOKENS_MAX,
    draft_model: DraftModelOption = None,
    models: ModelsOption = None,
    keys: KeysOption = None,
    log_level: LogLevelOption = "INFO",
) -> None:
    """Bond, announce and serve layers of a model until SIGINT or SIGTERM: START to END, or where it is needed most.

    The first signal lets running requests finish, within --grace, and tells the chain; a second one ends it at once.
    """
    setup_logging(log_level)
    chosen = None if layers is None else parse_layers(layers)
    processor = Device.parse(device)
    require_device(processor)  # before anything is loaded or paid; addresses and numbers likewise
    _require_addresses(listen, relay or [])
    root = get_models_dir(models)
    store = ShardStore(root)
    model_id = find_wanted_model(store, model) if chosen is None else find_model(store, model)
    if chosen is not None and memory is not None:
        require_fitting(store.load_manifest(model_id), chosen, kv_positions, parse_size(memory))
    policy = None if chosen is not None else PlacingPolicy(read_memory(memory, processor))
    start, end = chosen or (0, 0)
    config = WorkerConfig(
        directory=base,
        models=root,
        model=model_id,
        start=start,
        end=end,
        worker_key=load_signing_key(worker, KeyKind.WORKER, keys),
        node_seed=load_node_seed(node, keys),
        listen=(listen,) if listen else () if relay else ("/ip4/127.0.0.1/tcp/0",),
        bond=bond * NMYL_PER_MYL,
        prefill_price=prefill_price,
        decode_price=decode_price,
        kv_positions=kv_positions,
        threads=threads,
        device=processor,
        grace_s=grace,
        drafts_max=drafts,
        draft_model=None if draft_model is None else find_model(store, draft_model),
        relays=tuple(relay or ()),
    )
    trio.run(serve, config, policy, rpc, account, keys)


def _require_addresses(listen: str | None, relays: list[str]) -> None:
    """Raises AddressInvalid."""
    if listen:
        decode_multiaddr(listen)
    require_relays(relays)


async def serve(config: WorkerConfig, policy: PlacingPolicy | None, rpc: str, name: str, keys: Path | None) -> None:
    """Connect and serve the configured layers, or with a policy those that it finds; leave in order at a signal."""
    departure = Departure()
    async with trio.open_nursery() as nursery:
        cancel = nursery.cancel_scope.cancel
        await nursery.start(drain_on_signal, departure, cancel)
        async with open_account(rpc, name, keys) as (account, _):
            if policy is None:
                await run_worker(config, account, departure=departure)
            else:
                await Placer(config, account, policy, departure).run()
        cancel()


@app.command("repair")
def repair_command(base: Annotated[Path, typer.Option("--base", help="The worker's directory.")]) -> None:
    """Put a damaged log of taken requests aside. Afterwards only sessions opened later are served. Stop it first."""
    if not base.is_dir():
        raise WorkerRefused(f"there is no directory {base}: name the worker's with --base")
    for path in repair_logs(base):
        print(f"put aside as {path}")


@app.command("status")
def status_command(
    account: Annotated[str, typer.Option(help=f"Operator's account key. {KEY_HELP}")],
    rpc: RpcOption = DEFAULT_RPC,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the chain says of an operator's workers: layers, bond, earnings, verdicts."""
    trio.run(_show_status, rpc, account, keys, as_json)


async def _show_status(rpc: str, name: str, keys: Path | None, as_json: bool) -> None:
    async with open_account(rpc, name, keys) as (account, _):
        found = await account.chain.read(queries.list_workers_of, account.public_key)
    if as_json:
        rows = [
            {
                "worker": f"0x{key.hex()}",
                "status": WorkerStatus(one.status).name.lower(),
                "start": one.start,
                "end": one.end,
                "bond": one.bond,
                "earned": one.earned,
                "unresolved": one.unresolved,
                "passes": one.passes,
                "fails": one.fails,
                "unavailable": one.unavailable,
            }
            for key, one in found
        ]
        print(json.dumps(rows))
        return
    table = Table("worker", "status", "layers", "bond", "earned", "unresolved", "passed", "failed", box=None)
    for key, one in found:
        table.add_row(
            key.hex()[:12],
            WorkerStatus(one.status).name.lower(),
            f"{one.start}-{one.end - 1}",
            format_myl(one.bond),
            format_myl(one.earned),
            format_myl(one.unresolved),
            str(one.passes),
            str(one.fails),
        )
    Console().print(table)
