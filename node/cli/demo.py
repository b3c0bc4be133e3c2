"""`myelin demo`: a localnet, a paid request, the chain's account of it, and an honest exit status."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import trio
import typer
from rich.console import Console

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Request, StageStatus, Worker, WorkerStatus
from genesis.dev import get_dev_identity
from node.cli.amounts import format_myl
from node.cli.checkout import find_in_checkout
from node.cli.demo_kill import KILL_PROMPT, KILL_TOKENS, SPARE, Killed, judge_recovery, kill_serving
from node.cli.errors import CliError
from node.cli.models import import_sample
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.next_steps import make_next_steps
from node.cli.running import run_until_signalled, wait_for_signal
from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.localnet.errors import LocalnetError
from node.localnet.localnet import Localnet, open_localnet
from node.localnet.plan import LocalnetPlan, Partitions, Wanted, make_plan
from proto_specs.errors import ExitStatus
from proto_specs.types.manifest import Manifest, compute_model_id

WORKERS = ("bob", "charlie", "dave")
CLIENT = "client"
MIDDLE = 1
"""The stage that has a spare with --kill."""
PROMPT = "What is the capital of France, and what is it known for?"
TOKENS = 96
CHEATING_WORKER = "tests.actors.cheating_worker"


Cheat = Literal["quantise", "skip", "perturb"]
"""The dishonest worker's fault: 4-bit weights, one layer left out, or 1 % noise on the weights."""


@dataclass(frozen=True)
class DemoOptions:
    """How to run the demo. `cheat` makes worker number `cheater` dishonest; `kill` kills one in mid-answer."""

    models: Path
    prompt: str = PROMPT
    tokens: int = TOKENS
    cheat: Cheat | None = None
    cheater: int = 1
    keep: bool = False
    base: Path | None = None
    block_interval_ms: int = 1_000
    kill: bool = False


class CheatAndKill(CliError):
    """--cheat and --kill show two things: give one of them."""


def demo_command(
    prompt: Annotated[
        str | None, typer.Option(help=f"What to ask the model [default: {PROMPT} With --kill: {KILL_PROMPT}]")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help=f"Most tokens to generate [default: {TOKENS}, with --kill {KILL_TOKENS}].")
    ] = None,
    cheat: Annotated[Cheat | None, typer.Option(help="Make one worker serve a wrong shard (from a checkout).")] = None,
    cheater: Annotated[int, typer.Option(min=0, max=2, help="Which of the three stages cheats.")] = 1,
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill a worker in mid-answer: a fourth one, a spare, goes on.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the network running until Ctrl-C.")] = False,
    interval_ms: Annotated[int, typer.Option(min=50, help="Block interval.")] = 1_000,
    base: Annotated[Path | None, typer.Option(help="Where to put it (default: a temporary directory).")] = None,
    models: ModelsOption = None,
) -> None:
    """One validator, three workers, one paid and verified answer. Status 0 only if the chain shows all of it."""
    if cheat is not None and kill:
        raise CheatAndKill("--cheat and --kill show two things: give one of them")
    prompt = prompt or (KILL_PROMPT if kill else PROMPT)
    tokens = tokens or (KILL_TOKENS if kill else TOKENS)
    options = DemoOptions(get_models_dir(models), prompt, tokens, cheat, cheater, keep, base, interval_ms, kill)
    status = trio.run(run_until_signalled, run_demo, options, Console())
    raise typer.Exit(ExitStatus.INTERRUPTED if status is None else status)


async def run_demo(options: DemoOptions, console: Console) -> int:
    """Run a localnet and a prompt. The exit status says whether the demo showed what it set out to show."""
    programs = {} if options.cheat is None else {WORKERS[options.cheater]: make_cheating_program(options.cheat)}
    manifest = await trio.to_thread.run_sync(import_sample, options.models, console)
    base = (options.base or Path(tempfile.mkdtemp(prefix="myelin-demo-"))).absolute()
    plan = make_demo_plan(base, options.models.absolute(), manifest, options.block_interval_ms, programs)
    if options.kill:
        plan = add_spare(plan)
    status: int = ExitStatus.REFUSED
    with open_localnet(base) as net:
        if net.state is not None:
            raise LocalnetError(
                f"{base} holds a network already: name another --base, or go on with it by "
                f"`myelin localnet up --validators 1 --workers {len(plan.workers)} --base {base}`"
            )
        try:
            with console.status(f"starting one validator and {len(plan.workers)} workers"):
                await net.up(lambda: plan, lambda _text: None)
            _show_network(console, plan)
            async with open_rpc(plan.validators[0].rpc_url) as rpc:
                chain = await RpcChain.connect(rpc)
                if options.kill:
                    answered, killed = await _ask_and_kill(chain, net, options, plan)
                    account = get_dev_identity(CLIENT).account
                    status = await judge_recovery(chain, killed, account, answered, console)
                else:
                    status = await judge_outcome(chain, options, plan, await _ask(options, plan), console)
            _show_next(console, plan, base)
            if options.keep:
                console.print("The network stays up; Ctrl-C stops it.")
                await wait_for_signal()
            return status
        finally:
            with trio.CancelScope(shield=True):
                await net.down()
            if options.base is None and status == ExitStatus.DONE:
                shutil.rmtree(base, ignore_errors=True)
            else:
                console.print(f"directories and logs: {base}")


def make_demo_plan(
    base: Path, models: Path, manifest: Manifest, block_interval_ms: int, programs: dict[str, tuple[str, ...]]
) -> LocalnetPlan:
    """Validator alice; bob, charlie and dave share the layers. `programs` run in place of `worker run`, by name."""
    wanted = Wanted(1, len(WORKERS), block_interval_ms, Partitions.NONE, delay_ms=0, payers=0)
    model, layers = compute_model_id(manifest).hex(), manifest.architecture.layers
    plan = make_plan(base, wanted, time.time_ns() // 1_000_000, model, str(models), layers)
    workers = tuple(
        dataclasses.replace(one, name=name, program=programs.get(name, ()))
        for one, name in zip(plan.workers, WORKERS, strict=True)
    )
    return dataclasses.replace(plan, workers=workers)


def add_spare(plan: LocalnetPlan) -> LocalnetPlan:
    """The plan with a worker more, for the middle layers."""
    spare = dataclasses.replace(plan.workers[MIDDLE], name=SPARE)
    return dataclasses.replace(plan, workers=(*plan.workers, spare))


def make_cheating_program(cheat: Cheat) -> tuple[str, ...]:
    """The program of a worker that serves a wrong shard. Raises NoCheckout: no wheel has it."""
    root = find_in_checkout("tests/actors")
    return ("env", f"PYTHONPATH={root}", sys.executable, "-m", CHEATING_WORKER, cheat)


async def _ask(options: DemoOptions, plan: LocalnetPlan) -> int:
    """Run `myelin infer` on this terminal, as a user does; returns its exit status."""
    argv = [
        sys.executable,
        "-m",
        "node.cli.main",
        "infer",
        options.prompt,
        "--wait",
        "--rpc",
        plan.validators[0].rpc_url,
    ]
    argv += ["--model", plan.model, "--models", plan.models, "--account", f"dev:{CLIENT}"]
    process = await trio.run_process([*argv, "--tokens", str(options.tokens)], check=False)
    return int(process.returncode or 0)


async def _ask_and_kill(
    chain: RpcChain, net: Localnet, options: DemoOptions, plan: LocalnetPlan
) -> tuple[int, Killed | None]:
    """Ask, and kill who serves the middle layers meanwhile. None: the answer was over before."""
    rivals = [one for one in plan.workers if one.start == plan.workers[MIDDLE].start]
    killed: list[Killed] = []

    async def kill() -> None:
        killed.append(await kill_serving(chain, net, bytes.fromhex(plan.model), rivals))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        status = await _ask(options, plan)
        nursery.cancel_scope.cancel()
    return status, killed[0] if killed else None


async def judge_outcome(
    chain: RpcChain, options: DemoOptions, plan: LocalnetPlan, status: int, console: Console
) -> int:
    """Whether the chain shows what the demo set out to show. Everything is read by JSON-RPC, nothing remembered."""
    request = await _read_last_request(chain)
    if request is None:
        console.print("[red]failed[/red]: no request was settled")
        return status or ExitStatus.REFUSED
    if options.cheat is None:
        is_paid = all(one.status == StageStatus.PAID for one in request.stages)
        verdict = "[green]verified and paid[/green]" if is_paid else "[red]not verified[/red]"
        console.print(f"The request is {verdict}.", highlight=False)
        return ExitStatus.DONE if is_paid and status == ExitStatus.DONE else ExitStatus.NOT_VERIFIED
    cheater = plan.workers[options.cheater]
    key = get_dev_identity(cheater.name).worker_key.public_key
    worker = await chain.read(queries.read_worker, key)
    assert worker is not None, "it was registered before the request"
    problems = find_escapes(request, worker, options.cheater)
    if problems:
        console.print(f"[red]The cheat was not punished in full[/red]: {'; '.join(problems)}.", highlight=False)
        return ExitStatus.REFUSED
    console.print(
        f"[green]Caught[/green]: {cheater.name} served layers {cheater.start}-{cheater.end - 1} dishonestly "
        f"({options.cheat}), was slashed and ejected; {format_myl(request.returned)} of "
        f"{format_myl(request.price)} went back to the client.",
        highlight=False,
    )
    return ExitStatus.DONE


def find_escapes(request: Request, worker: Worker, stage: int) -> list[str]:
    """The parts of a cheater's punishment that are missing on chain."""
    problems = []
    if request.stages[stage].status != StageStatus.SLASHED:
        problems.append(f"stage {stage} ended as {StageStatus(request.stages[stage].status).name.lower()}")
    if worker.status != WorkerStatus.EJECTED:
        problems.append(f"its worker is {WorkerStatus(worker.status).name.lower()}")
    if request.returned != request.price:
        problems.append(f"the client got back {request.returned} of {request.price} nmyl")
    innocent = [one.status for number, one in enumerate(request.stages) if number != stage]
    if any(one != StageStatus.PAID for one in innocent):
        problems.append("an honest stage was not paid")
    return problems


async def _read_last_request(chain: RpcChain) -> Request | None:
    """The client's most recent settled request."""
    client = get_dev_identity(CLIENT).account
    found: list[Request] = []
    for session, _ in await chain.read(queries.list_sessions, client):
        for _, request in await chain.read(queries.list_requests, session):
            settled = await chain.get_request(request)
            if settled is not None:
                found.append(settled)
    return max(found, key=lambda one: one.settled_height, default=None)


def _show_network(console: Console, plan: LocalnetPlan) -> None:
    every = f"block every {plan.block_interval_ms} ms"
    console.print(f"[bold]{'chain':>10}[/bold]  validator alice, {every}, {plan.validators[0].rpc_url}")
    for worker in plan.workers:
        console.print(f"[bold]{'worker':>10}[/bold]  {worker.name}: layers {worker.start}-{worker.end - 1}")


def _show_next(console: Console, plan: LocalnetPlan, base: Path) -> None:
    """Print the address, and commands to try while the network is up (`--keep`)."""
    url = plan.validators[0].rpc_url
    body = '{"jsonrpc":"2.0","id":1,"method":"inference_models","params":[]}'
    console.print()
    console.print(f"JSON-RPC: {url}   (stays up with `--keep`); try:", highlight=False)
    for line in (*make_next_steps(url, base, Path(plan.models)), f"curl -s {url} -d '{body}'"):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
