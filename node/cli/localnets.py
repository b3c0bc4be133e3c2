"""`myelin localnet`: a whole network on this machine, faults on demand, and load."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import click
import trio
import typer
from rich.console import Console

from genesis.spec import compute_genesis_hash
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.next_steps import make_next_steps
from node.cli.options import JsonOption
from node.cli.plain import print_pairs, print_table
from node.cli.running import run_until_signalled
from node.localnet.errors import LocalnetError
from node.localnet.groups import parse_groups
from node.localnet.latency import LoadReport
from node.localnet.load import LoadPlan, run_load
from node.localnet.localnet import Localnet, open_localnet
from node.localnet.namespaces import is_permitted
from node.localnet.plan import LocalnetPlan, Partitions, Wanted, build_spec, make_plan
from node.localnet.status import LocalnetStatus, load_localnet, read_status
from proto_specs.errors import ExitStatus

app = typer.Typer(no_args_is_help=True, help=__doc__)

DEFAULT_LOCALNET = Path.home() / ".myelin-localnet"
WATCH_S = 1.0
BaseOption = Annotated[Path, typer.Option("--base", help="The net's directory.")]
NameArgument = Annotated[str, typer.Argument(help="A process, as `status` names it.")]


@app.command("up")
def up_command(
    validators: Annotated[int, typer.Option(min=1, help="How many.")] = 4,
    workers: Annotated[int, typer.Option(min=0, max=16, help="How many share the model's layers; 0 needs none.")] = 3,
    model: Annotated[str | None, typer.Option(help="A stored model (default: the sample, fetched once).")] = None,
    base: BaseOption = DEFAULT_LOCALNET,
    block_interval_ms: Annotated[int, typer.Option(min=50, help="Block interval.")] = 1_000,
    partitions: Annotated[
        Partitions | None,
        typer.Option(help="How nodes can be kept apart (default: namespaces if permitted, or proxy)."),
    ] = None,
    delay_ms: Annotated[int, typer.Option(min=0, max=10_000, help="Delay of every message, one way (proxy only).")] = 0,
    models: ModelsOption = None,
) -> None:
    """Bring up validators and workers and leave them running. What runs already stays as it is."""

    def plan(absolute: Path) -> LocalnetPlan:
        wanted = Wanted(validators, workers, block_interval_ms, _choose_partitions(partitions, validators), delay_ms)
        now_ms = time.time_ns() // 1_000_000
        if not workers:
            return make_plan(absolute, wanted, now_ms)
        root = get_models_dir(models).absolute()
        found, layers = _find_model(root, model)
        if workers > layers:
            raise LocalnetError(f"the model has {layers} layers, which {workers} workers cannot share: ask for fewer")
        return make_plan(absolute, wanted, now_ms, found, str(root), layers)

    async def up(net: Localnet) -> None:
        if net.state is not None:
            _require_same(net.state.plan, validators, workers)
        report = Console(stderr=True).print
        if not await net.up(lambda: plan(base.absolute()), lambda text: report(text, highlight=False)):
            print("it runs already")

    _act(base, up)
    _show(trio.run(read_status, base.absolute()))
    if workers:
        made = load_localnet(base.absolute()).plan
        print("try:")
        for line in make_next_steps(made.validators[0].rpc_url, base, Path(made.models)):
            print(f"  {line}")


@app.command("status")
def status_command(
    base: BaseOption = DEFAULT_LOCALNET,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """Processes, heights, and who is kept apart."""

    async def show() -> None:
        while True:
            found = await read_status(base.absolute())
            if as_json:
                print(json.dumps(found.to_json()), flush=True)
            else:
                if watch:
                    click.clear()
                _show(found)
            if not watch:
                return
            await trio.sleep(WATCH_S)

    trio.run(run_until_signalled, show)


@app.command("kill")
def kill_command(name: NameArgument, base: BaseOption = DEFAULT_LOCALNET) -> None:
    """`kill -9` of a process and of those it started."""
    _act(base, lambda net: net.kill(name))


@app.command("start")
def start_command(name: NameArgument, base: BaseOption = DEFAULT_LOCALNET) -> None:
    """Start a process that was killed or ended."""
    _act(base, lambda net: net.start(name))


@app.command("pause")
def pause_command(name: NameArgument, base: BaseOption = DEFAULT_LOCALNET) -> None:
    """Stop a process in its tracks (SIGSTOP)."""

    async def pause(net: Localnet) -> None:
        net.pause(name)

    _act(base, pause)


@app.command("resume")
def resume_command(name: NameArgument, base: BaseOption = DEFAULT_LOCALNET) -> None:
    """Let a paused process go on (SIGCONT)."""

    async def resume(net: Localnet) -> None:
        net.resume(name)

    _act(base, resume)


@app.command("partition")
def partition_command(
    groups: Annotated[list[str], typer.Argument(help="Names with commas, groups with spaces; the rest is one more.")],
    base: BaseOption = DEFAULT_LOCALNET,
) -> None:
    """Keep groups of validators apart: `partition alice,bob charlie,dave`."""

    async def partition(net: Localnet) -> None:
        await net.set_groups(parse_groups(groups, load_localnet(base.absolute()).plan.names))

    _act(base, partition)


@app.command("heal")
def heal_command(base: BaseOption = DEFAULT_LOCALNET) -> None:
    """Connect all validators again."""
    _act(base, lambda net: net.set_groups(()))


@app.command("load")
def load_command(
    tps: Annotated[float, typer.Option(min=0.1, help="Transfers a second, over all validators.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 10.0,
    base: BaseOption = DEFAULT_LOCALNET,
    as_json: JsonOption = False,
) -> None:
    """Send transfers at a steady rate and time each until it is final. Status 1 when some failed."""
    plan = load_localnet(base.absolute()).plan
    load = LoadPlan(tps, seconds, plan.payers, compute_genesis_hash(build_spec(plan)))
    tally = trio.run(run_until_signalled, run_load, [one.rpc_url for one in plan.validators], load)
    if tally is None:
        raise typer.Exit(ExitStatus.INTERRUPTED)
    report = tally.report()
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        _show_report(report)
    if report.failures:
        raise typer.Exit(ExitStatus.REFUSED)


@app.command("down")
def down_command(
    base: BaseOption = DEFAULT_LOCALNET,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the chain and the logs too.")] = False,
) -> None:
    """Stop everything. Without --remove, `up` goes on with the same chain."""
    _act(base, lambda net: net.remove() if remove else net.down())


def _act(base: Path, act: Callable[[Localnet], Awaitable[None]]) -> None:
    """Act on the net while no other command does; a signal ends the command as Ctrl-C does."""

    async def run() -> bool:
        with open_localnet(base.absolute()) as net:
            await act(net)
        return True

    has_ended = trio.run(run_until_signalled, run)
    if not has_ended:
        raise typer.Exit(ExitStatus.INTERRUPTED)


def _choose_partitions(wanted: Partitions | None, validators: int) -> Partitions:
    """The wanted kind of partitions if this machine permits it; by default the best. Raises LocalnetError."""
    if wanted is Partitions.NAMESPACES and not is_permitted():
        raise LocalnetError("network namespaces need Linux, root and the `ip` command: use --partitions proxy")
    if wanted is not None:
        return wanted
    if validators == 1:
        return Partitions.NONE
    return Partitions.NAMESPACES if is_permitted() else Partitions.PROXY


def _find_model(root: Path, name: str | None) -> tuple[str, int]:
    """(id in hex, layers) of a stored model; the sample is fetched when none is named. Raises StoreError."""
    from inference.model.store import ShardStore
    from node.cli.models import import_sample
    from node.cli.stored_models import find_model
    from proto_specs.types.manifest import compute_model_id

    if name is None:
        manifest = import_sample(root, Console(stderr=True))
        return compute_model_id(manifest).hex(), manifest.architecture.layers
    store = ShardStore(root)
    found = find_model(store, name)
    return found.hex(), store.load_manifest(found).architecture.layers


def _require_same(plan: LocalnetPlan, validators: int, workers: int) -> None:
    """Refuse another size than the net's. Raises LocalnetError."""
    if (len(plan.validators), len(plan.workers)) != (validators, workers):
        raise LocalnetError(
            f"the net here has {len(plan.validators)} validators and {len(plan.workers)} workers: ask for as many, "
            "or end it with `myelin localnet down --remove`"
        )


def _show(status: LocalnetStatus) -> None:
    print(status.summary)
    header = ("name", "state", "pid", "height", "age ms", "pending", "rpc")
    rows = [
        (one.name, one.state, *map(_text, (one.pid, one.height, one.age_ms, one.pending, one.rpc)))
        for one in status.processes
    ]
    print_table(header, rows, right=("pid", "height", "age ms", "pending"))


def _show_report(report: LoadReport) -> None:
    pairs = [(name, _text(value)) for name, value in dataclasses.asdict(report).items() if name != "failures"]
    print_pairs([*pairs, *((f"failed: {reason}", str(count)) for reason, count in report.failures.items())])


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
