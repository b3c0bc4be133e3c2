"""`myelin worker plan`: which layers this machine would serve, and why. Fetches and announces nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import trio
import typer

from inference.engine.device import CPU
from inference.model.store import ShardStore
from node.cli.amounts import format_myl
from node.cli.connect import DEFAULT_RPC, RpcOption, open_account
from node.cli.keyring import KEY_HELP, KeysOption, load_signing_key
from node.cli.memory_option import MemoryOption, read_memory
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import JsonOption
from node.cli.plain import print_pairs
from node.cli.stored_models import find_wanted_model
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
from node.client.chain_view import WorkerEntry
from node.keys.derivation import KeyKind
from node.worker.placing import PlaceFound, Placer, PlacingPolicy
from node.worker.service import WorkerConfig
from proto_specs.types.common import NMYL_PER_MYL

Planned = tuple[PlaceFound, WorkerEntry | None]


def plan_command(
    model: Annotated[str, typer.Option(help="Name, id, or the start of an id; the whole id if it is not stored.")],
    account: Annotated[str, typer.Option(help=f"Operator's account key. {KEY_HELP}")],
    worker: Annotated[str, typer.Option(help=f"Worker key. {KEY_HELP}")],
    memory: MemoryOption = None,
    rpc: RpcOption = DEFAULT_RPC,
    bond: BondOption = DEFAULT_BOND_MYL,
    prefill_price: PrefillPriceOption = DEFAULT_PREFILL_PRICE,
    decode_price: DecodePriceOption = DEFAULT_DECODE_PRICE,
    kv_positions: KvPositionsOption = DEFAULT_KV_POSITIONS,
    models: ModelsOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which layers `worker run` without --layers would take now on this machine, and why. Changes nothing.

    A worker that is registered keeps its layers until a move is worth it: these are what it would take as a new one.
    """
    root = get_models_dir(models)
    memory_bytes = read_memory(memory, CPU)
    config = WorkerConfig(
        directory=root,
        models=root,
        model=find_wanted_model(ShardStore(root), model),
        start=0,
        end=0,
        worker_key=load_signing_key(worker, KeyKind.WORKER, keys),
        node_seed=bytes(32),
        listen=(),
        bond=bond * NMYL_PER_MYL,
        prefill_price=prefill_price,
        decode_price=decode_price,
        kv_positions=kv_positions,
    )
    found, known = trio.run(_plan, config, PlacingPolicy(memory_bytes), rpc, account, keys)
    worth = found.worth
    is_kept = known is not None and not known.is_leaving and known.model == config.model
    kept = (known.start, known.end) if known is not None and is_kept else None
    if as_json:
        others = {"listed": len(found.seen.listed), "answering": len(found.seen.held)}
        print(
            json.dumps(
                {**asdict(worth), "memory": memory_bytes, "others": others, "why": found.explain(), "kept": kept}
            )
        )
        return
    held = [] if kept is None else [("registered for", f"{kept[0]}-{kept[1] - 1}, which `worker run` keeps at first")]
    print_pairs(
        [
            *held,
            ("layers", f"{worth.start}-{worth.end - 1} (--layers {worth.start}:{worth.end})"),
            ("why", found.explain()),
            ("memory", f"{worth.bytes_memory / 1e6:.0f} of {memory_bytes / 1e6:.0f} MB, weights and KV memory"),
            ("to fetch", f"{worth.bytes_missing / 1e6:.1f} MB"),
            ("bond that emission counts", format_myl(worth.counted_bond)),
        ]
    )


async def _plan(config: WorkerConfig, policy: PlacingPolicy, rpc: str, name: str, keys: Path | None) -> Planned:
    async with open_account(rpc, name, keys) as (account, _):
        known = await account.chain.get_worker(config.worker_key.public_key)
        return await Placer(config, account, policy).plan(), known
