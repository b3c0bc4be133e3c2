"""The demo's story, one function: model, network, one paid request, what the chain says, an honest exit status."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trio
from rich.console import Console

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Request, StageStatus, Worker, WorkerStatus
from genesis.dev import get_dev_identity
from node.cli.models import import_sample
from node.cli.nodes import wait_for_signal
from node.cli.show_inference import format_myl
from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.localnet.demo_network import CLIENT, DemoNetwork, NetworkPlan, find_free_port, split_layers
from proto_specs.errors import ExitStatus
from proto_specs.types.manifest import compute_model_id
from tests.actors.cheating import DemoCheat

WORKERS = ("bob", "charlie", "dave")
PROMPT = "What is the capital of France, and what is it known for?"


@dataclass(frozen=True)
class DemoOptions:
    """How to run the demo."""

    models: Path
    prompt: str = PROMPT
    tokens: int = 96
    cheat: DemoCheat | None = None
    cheater: int = 1
    keep: bool = False
    base: Path | None = None
    block_interval_ms: int = 1_000


async def run_demo(options: DemoOptions, console: Console) -> int:
    """Everything on real processes. The exit status says whether what was to be shown did happen."""
    manifest = await trio.to_thread.run_sync(import_sample, options.models, console)
    base = options.base or Path(tempfile.mkdtemp(prefix="myelin-demo-"))
    plan = NetworkPlan(
        base=base,
        models=options.models,
        model=compute_model_id(manifest),
        workers=split_layers(manifest.architecture.layers, WORKERS),
        rpc_port=find_free_port(),
        block_interval_ms=options.block_interval_ms,
        cheat=options.cheat,
        cheater=options.cheater,
    )
    network = DemoNetwork(plan)
    status: int = ExitStatus.REFUSED
    try:
        async with open_rpc(plan.rpc_url) as rpc:
            with console.status("starting one validator and three workers"):
                await network.init()
                await network.start_validator(rpc)
                await network.register_model()
                for number in range(len(plan.workers)):
                    await network.start_worker(number)
                chain = await RpcChain.connect(rpc)
                await network.wait_serving(chain)
            _show_network(console, plan)
            answered = await _ask(options, plan)
            status = await judge_outcome(chain, options, plan, answered, console)
            _show_next(console, plan)
            if options.keep:
                console.print("The network stays up; Ctrl-C stops it.")
                await wait_for_signal()
            return status
    finally:
        with trio.CancelScope(shield=True):
            await network.children.stop()
        if options.base is None and status == ExitStatus.DONE:
            shutil.rmtree(base, ignore_errors=True)
        else:
            console.print(f"directories and logs: {base}")


async def _ask(options: DemoOptions, plan: NetworkPlan) -> int:
    """`myelin infer` as a user runs it, on this terminal."""
    argv = [sys.executable, "-m", "node.cli.main", "infer", options.prompt, "--rpc", plan.rpc_url]
    argv += ["--model", plan.model.hex(), "--models", str(plan.models), "--account", f"dev:{CLIENT}"]
    process = await trio.run_process([*argv, "--tokens", str(options.tokens)], check=False)
    return int(process.returncode or 0)


async def judge_outcome(chain: RpcChain, options: DemoOptions, plan: NetworkPlan, status: int, console: Console) -> int:
    """Whether the chain shows what the demo set out to show. Read by JSON-RPC, none of it remembered."""
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
        f"({options.cheat.value}), was slashed and ejected; {format_myl(request.returned)} of "
        f"{format_myl(request.price)} went back to the client.",
        highlight=False,
    )
    return ExitStatus.DONE


def find_escapes(request: Request, worker: Worker, stage: int) -> list[str]:
    """What of a cheater's punishment is missing on chain."""
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


def _show_network(console: Console, plan: NetworkPlan) -> None:
    console.print(
        f"[bold]{'chain':>10}[/bold]  validator alice, block every {plan.block_interval_ms} ms, {plan.rpc_url}"
    )
    for worker in plan.workers:
        console.print(f"[bold]{'worker':>10}[/bold]  {worker.name}: layers {worker.start}-{worker.end - 1}")


def _show_next(console: Console, plan: NetworkPlan) -> None:
    """The address, and two commands to try while the network is up (`--keep`)."""
    body = '{"jsonrpc":"2.0","id":1,"method":"inference_models","params":[]}'
    console.print()
    console.print(f"JSON-RPC: {plan.rpc_url}   (stays up with `--keep`); try:", highlight=False)
    console.print(f"  .venv/bin/myelin infer 'Tell me a joke.' --rpc {plan.rpc_url}", highlight=False, markup=False)
    console.print(f"  curl -s {plan.rpc_url} -d '{body}'", highlight=False, markup=False, soft_wrap=True)
