"""`myelin init`, `run`, `wal`, `signer`: a node's directory and the node itself."""

from __future__ import annotations

import contextlib
import enum
import json
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import trio
import typer

from genesis.dev import build_dev_spec
from genesis.spec import compute_genesis_hash, load_spec, save_spec
from inference.engine.device import CPU, Device
from node.cli.keyring import KEY_HELP, KeysOption, load_node_seed, load_signing_key, parse_block_id
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import DEFAULT_BASE, BaseOption, DeviceOption, LogLevelOption
from node.cli.running import STOP_SIGNALS, run_until_signalled, setup_logging
from node.full.settings import SNAPSHOT_INTERVAL_DEFAULT, NodeConfig, NodePaths, NodeRefused, ValidatorKeys
from node.keys.derivation import KeyKind
from node.replica.wal import repair_wal
from node.signer.remote.server import listen, serve
from node.signer.signer import Signer, export_history, import_history, read_history
from node.store.retention import ARCHIVE, STATE_BLOCKS_DEFAULT, Retention

wal_app = typer.Typer(no_args_is_help=True, help="The consensus write-ahead log.")
signer_app = typer.Typer(no_args_is_help=True, help="The signer's history.")

DEFAULT_RPC_PORT = 9944
DEFAULT_RPC_CALLS_PER_S = 5_000
RpcCallsOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="RPC calls a second of one client's address; twice as many at once. Costly calls count as several.",
    ),
]
TrustOption = Annotated[
    str | None,
    typer.Option(
        help="With --sync snapshot: HEIGHT:HASH of a recent block, from who you trust, instead of the genesis set."
    ),
]

OneSourceOption = Annotated[
    bool, typer.Option("--trust-one-source", help="With --sync snapshot: believe a single peer, unconfirmed.")
]


RelayOption = Annotated[
    list[str] | None,
    typer.Option(help="Address of a node to be reached through: RELAY/p2p-circuit/p2p/ID. Repeatable."),
]
IndexOption = Annotated[
    bool, typer.Option(help="Keep an index of whom and what each block names, for `history_events`.")
]
PeerOption = Annotated[
    list[str] | None, typer.Option(help="Address of a peer to stay connected to: /ip4/A/tcp/P/p2p/ID. Repeatable.")
]


class Sync(enum.Enum):
    """The ways to start a node without a database."""

    BLOCKS = "blocks"
    SNAPSHOT = "snapshot"


def init_command(
    base: BaseOption = DEFAULT_BASE,
    chain: Annotated[str, typer.Option(help="`dev`, or the path of a chain spec (JSON).")] = "dev",
    validator: Annotated[str | None, typer.Option(help=f"Validator key. {KEY_HELP}")] = None,
    interval_ms: Annotated[int, typer.Option(help="Block interval of a dev chain.")] = 1_000,
    keys: KeysOption = None,
) -> None:
    """Make a node's directory: the chain spec, and a signer's history for a validator that has never signed."""
    paths = NodePaths(base)
    if paths.spec.exists():
        raise NodeRefused(f"{paths.spec} exists: this directory is initialised; use another --base")
    spec = build_dev_spec(block_interval_ms=interval_ms) if chain == "dev" else load_spec(Path(chain))
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    if validator is not None:
        key = load_signing_key(validator, KeyKind.VALIDATOR, keys)
        if paths.signer.exists():  # came with the key, or from an interrupted init: a history is never begun anew
            Signer(paths.signer, key, compute_genesis_hash(spec)).close()
        else:
            Signer.initialise(paths.signer, key, compute_genesis_hash(spec))
    save_spec(spec, paths.spec)
    print(f"{base}: chain {spec.name}, genesis 0x{compute_genesis_hash(spec).hex()}")


def run_command(
    base: BaseOption = DEFAULT_BASE,
    validator: Annotated[str | None, typer.Option(help=f"Validator key. {KEY_HELP}")] = None,
    remote_signer: Annotated[
        Path | None, typer.Option(help="Socket of a `myelin signer serve` that holds the validator key.")
    ] = None,
    operator: Annotated[str | None, typer.Option(help=f"Operator's account key. {KEY_HELP}")] = None,
    node: Annotated[str | None, typer.Option(help=f"libp2p node key (default: a fresh one). {KEY_HELP}")] = None,
    rpc_host: Annotated[str, typer.Option(help="Address of the public RPC.")] = "127.0.0.1",
    rpc_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the public RPC.")] = DEFAULT_RPC_PORT,
    rpc_calls_per_s: RpcCallsOption = DEFAULT_RPC_CALLS_PER_S,
    listen: Annotated[str, typer.Option(help="libp2p address to listen at.")] = "/ip4/127.0.0.1/tcp/0",
    peer: PeerOption = None,
    discover: Annotated[bool, typer.Option(help="Ask peers for peers, and stay connected to 8 at least.")] = True,
    mdns: Annotated[bool, typer.Option(help="Find peers of this chain on the local network.")] = False,
    relay: RelayOption = None,
    relay_for: Annotated[int, typer.Option(min=0, help="How many nodes that cannot be dialled to be a relay for.")] = 0,
    sync: Annotated[
        Sync, typer.Option(help="How a new node gets the chain: all its blocks, or a snapshot of its state.")
    ] = Sync.BLOCKS,
    trust: TrustOption = None,
    trust_one_source: OneSourceOption = False,
    verify: Annotated[bool, typer.Option(help="Do verification duty for the models in shard storage.")] = True,
    device: DeviceOption = "cpu",
    pruning: Annotated[
        str, typer.Option(help="Blocks behind the head whose state is kept, or `archive`: all from now on.")
    ] = str(STATE_BLOCKS_DEFAULT),
    snapshot_interval: Annotated[
        int, typer.Option(min=0, help="Blocks between two snapshots for nodes that join; 0: make none.")
    ] = SNAPSHOT_INTERVAL_DEFAULT,
    keep_blocks: Annotated[str, typer.Option(help="Blocks whose body and receipts are kept, or `all`.")] = "all",
    index: IndexOption = True,
    models: ModelsOption = None,
    keys: KeysOption = None,
    log_level: LogLevelOption = "INFO",
) -> None:
    """Run a node until SIGINT or SIGTERM."""
    setup_logging(log_level)
    paths = NodePaths(base)
    if not paths.spec.exists():
        raise NodeRefused(f"there is no chain spec in {base}: run `myelin init --base {base}` first")
    config = NodeConfig(
        paths=paths,
        spec=load_spec(paths.spec),
        validator=load_validator_keys(validator, remote_signer, operator, keys),
        node_seed=load_node_seed(node, keys),
        verifier_node_seed=load_node_seed(None, keys),
        rpc_host=rpc_host,
        rpc_port=rpc_port,
        rpc_calls_per_s=rpc_calls_per_s,
        listen=(listen,),
        peers=tuple(peer or ()),
        models=get_models_dir(models) if verify else None,
        device=check_device(device) if verify else str(CPU),
        retention=replace(parse_retention(pruning, keep_blocks), is_indexed=index),
        snapshot_interval=snapshot_interval,
        discover=discover,
        mdns=mdns,
        relays=tuple(relay or ()),
        relay_for=relay_for,
        by_snapshot=sync is Sync.SNAPSHOT,
        trusted_block=None if trust is None else parse_block_id(trust),
        trust_one_source=trust_one_source,
    )
    from node.full.service import run_node  # with libp2p and LevelDB, which the other commands here do without

    trio.run(run_until_signalled, run_node, config)


def check_device(text: str) -> str:
    """The device that the verifier computes on. Raises DeviceError where it cannot: the verifier would fail later."""
    device = Device.parse(text)
    if device != CPU:
        from inference.engine.ort import require_device  # with the runtime, which a node does without

        require_device(device)
    return str(device)


def load_validator_keys(
    validator: str | None, remote_signer: Path | None, operator: str | None, keys: Path | None
) -> ValidatorKeys | None:
    """The keys of `--validator` or `--remote-signer`, and `--operator`; None without them. Raises NodeRefused."""
    if validator is not None and remote_signer is not None:
        raise NodeRefused("the validator key is here (--validator) or with the signer (--remote-signer), not both")
    if (validator is None and remote_signer is None) != (operator is None):
        raise NodeRefused("a validator runs with both --validator (or --remote-signer) and --operator")
    if operator is None:
        return None
    consensus = remote_signer or load_signing_key(validator or "", KeyKind.VALIDATOR, keys)
    return ValidatorKeys(consensus, load_signing_key(operator, KeyKind.ACCOUNT, keys))


def parse_retention(pruning: str, keep_blocks: str) -> Retention:
    """The retention of `--pruning` and `--keep-blocks`. Raises NodeRefused."""
    try:
        return Retention(
            state_blocks=None if pruning == ARCHIVE else int(pruning),
            body_blocks=None if keep_blocks == "all" else int(keep_blocks),
        )
    except ValueError as error:
        raise NodeRefused(
            f"--pruning {pruning} --keep-blocks {keep_blocks}: {error}. Write a number of blocks, `--pruning archive` "
            "or `--keep-blocks all`"
        ) from error


@wal_app.command("repair")
def wal_repair_command(base: BaseOption = DEFAULT_BASE) -> None:
    """Drop everything from the first damaged record on. Stop the node first."""
    path = NodePaths(base).wal
    if not path.exists():
        raise NodeRefused(f"there is no consensus log {path}: name the node's directory with --base")
    print(f"{repair_wal(path)} bytes dropped")


@signer_app.command("export")
def signer_export_command(base: BaseOption = DEFAULT_BASE) -> None:
    """Print the signer's history as JSON, to move a validator. Stop the node first, and never start it here again."""
    print(export_history(NodePaths(base).signer))


@signer_app.command("import")
def signer_import_command(file: Path, base: BaseOption = DEFAULT_BASE) -> None:
    """Install a history exported elsewhere."""
    text = read_history(file)
    import_history(NodePaths(base).signer, text)
    found = json.loads(text)
    print(f"installed: height {found['height']} was signed last")


@signer_app.command("serve")
def signer_serve_command(
    validator: Annotated[str, typer.Option(help=f"Validator key. {KEY_HELP}")],
    socket_path: Annotated[Path, typer.Option("--socket", help="Where the node connects; this user's alone.")],
    base: BaseOption = DEFAULT_BASE,
    keys: KeysOption = None,
    log_level: LogLevelOption = "INFO",
) -> None:
    """Hold a validator's key and history in a process of their own, for one node on this machine, until SIGTERM."""
    setup_logging(log_level)
    with contextlib.ExitStack() as stack:
        paths = NodePaths(base)
        if not paths.spec.exists():
            raise NodeRefused(f"there is no chain spec in {base}: run `myelin init --validator KEY` first")
        key, genesis = load_signing_key(validator, KeyKind.VALIDATOR, keys), compute_genesis_hash(load_spec(paths.spec))
        signer = stack.enter_context(contextlib.closing(Signer(paths.signer, key, genesis)))
        stop, stopper = (stack.enter_context(one) for one in socket.socketpair())
        stopper.setblocking(False)
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(stopper.fileno())
        serve(signer, stack.enter_context(listen(socket_path)), stop)
