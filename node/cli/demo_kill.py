"""`myelin demo --kill`: the worker of the middle layers is killed in mid-answer, and the chain tells the rest."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio
from rich.console import Console

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Request
from genesis.dev import get_dev_identity
from node.cli.amounts import format_myl
from node.cli.ask import open_client_host
from node.client.answer import RequestOutcome, Resolution
from node.client.chain_view import WorkerEntry
from node.client.outcome import read_outcome
from node.client.probing import ProbeFailed, probe_worker
from node.client.rpc_chain import RpcChain
from node.localnet.plan import WorkerPlan
from proto_specs.errors import ExitStatus
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.request import PathStage, compute_stage_price

SPARE = "eve"
KILL_PROMPT = "Tell a long story about a river, an old mill and the people who live there."
KILL_TOKENS = 200
TOKENS_BEFORE = 25
HOPS_SHARE = 1.5
"""A token takes longer than its steps: it travels, too."""
WAIT_S_MAX = 10.0
POLL_S = 0.05
PROBE_TIMEOUT_S = 2.0


class Killer(Protocol):
    """The part of a localnet that this needs."""

    async def kill(self, name: str) -> None:
        """`kill -9` of a process."""

    async def start(self, name: str) -> None:
        """Start one that does not run, and wait until it answers."""


@dataclass(frozen=True, slots=True)
class Killed:
    """The worker that was killed, `after_s` seconds after it was seen to draw tokens."""

    name: str
    worker: bytes
    after_s: float


@dataclass(frozen=True, slots=True)
class SettledPart:
    """A request of the answer as the chain has it."""

    request: bytes
    found: Request
    outcome: RequestOutcome


async def kill_serving(chain: RpcChain, net: Killer, model: bytes, rivals: Sequence[WorkerPlan]) -> Killed:
    """Wait until one of the rivals serves a request, let it write for a while, kill it, and start it again.

    What a worker serves is its own signed word. It is started again so that it can open what it had signed.
    """
    names = {get_dev_identity(one.name).worker_key.public_key: one.name for one in rivals}
    async with open_client_host() as host:
        while True:
            for entry in await chain.list_workers(model):
                if entry.worker not in names:
                    continue
                try:
                    report, _ = await probe_worker(host, entry, chain.genesis, PROBE_TIMEOUT_S)
                except ProbeFailed:
                    continue
                if report.requests and report.decode_us:  # it was started anew: so the answer has begun
                    return await _kill(net, names[entry.worker], entry, report.decode_us)
            await trio.sleep(POLL_S)


async def _kill(net: Killer, name: str, entry: WorkerEntry, decode_us: int) -> Killed:
    after_s = compute_wait_s(decode_us)
    await trio.sleep(after_s)
    await net.kill(name)
    await net.start(name)
    return Killed(name, entry.worker, after_s)


def compute_wait_s(decode_us: int, stages: int = 3) -> float:
    """How long to let the worker write: some tokens' time, by what a step takes there."""
    return min(WAIT_S_MAX, HOPS_SHARE * TOKENS_BEFORE * stages * decode_us / 1_000_000)


async def judge_recovery(chain: RpcChain, killed: Killed | None, client: bytes, status: int, console: Console) -> int:
    """Whether the chain shows one whole answer, that the killed worker and all others are paid for. The exit status."""
    if killed is None:
        console.print("[red]failed[/red]: the answer was over before a worker was killed")
        return status or ExitStatus.REFUSED
    parts = await read_parts(chain, client)
    workers = {one.worker: one for one in await _list_workers(chain, parts)}
    problems = find_faults(parts, workers, killed.worker)
    if status != ExitStatus.DONE:
        problems.append(f"`myelin infer` ended with status {status}")
    console.print(f"{killed.name} was killed (SIGKILL) in mid-answer, and started again.", highlight=False)
    if problems:
        console.print(f"[red]The answer did not survive as it should[/red]: {'; '.join(problems)}.", highlight=False)
        return status or ExitStatus.NOT_VERIFIED
    cost = sum(one.found.price for one in parts)
    console.print(
        f"The answer is whole, in {len(parts)} requests, [green]all verified and paid[/green], {killed.name} too: "
        f"{format_myl(cost)}. Undisturbed it would have cost {format_myl(compute_undisturbed(parts, workers))}.",
        highlight=False,
    )
    return ExitStatus.DONE


async def read_parts(chain: RpcChain, client: bytes) -> list[SettledPart]:
    """Every settled request of the client, each before the one that continues it."""
    found: list[SettledPart] = []
    for session, _ in await chain.read(queries.list_sessions, client):
        for _, request in await chain.read(queries.list_requests, session):
            settled, outcome = await chain.get_request(request), await chain.read(read_outcome, request)
            if settled is not None and outcome is not None:
                found.append(SettledPart(request, settled, outcome))
    return sorted(found, key=lambda one: one.found.first_window)


async def _list_workers(chain: RpcChain, parts: Sequence[SettledPart]) -> list[WorkerEntry]:
    return [one for model in {part.found.model for part in parts} for one in await chain.list_workers(model)]


def find_faults(parts: Sequence[SettledPart], workers: Mapping[bytes, WorkerEntry], killed: bytes) -> list[str]:
    """What is wrong with an answer that lost a worker; `parts` are its requests in order."""
    if len(parts) < 2:
        return [f"{len(parts)} of its requests were settled, not two"]
    problems: list[str] = []
    for before, after in itertools.pairwise(parts):
        if after.found.continues != before.request:
            problems.append("a request does not go on from the one before")
        if after.found.first_window != before.found.windows:
            problems.append(f"windows {before.found.windows} to {after.found.first_window} are billed twice or never")
    if not parts[-1].found.final:
        problems.append("the end of the answer is not settled")
    if killed not in {one.worker for one in parts[0].found.stages}:
        problems.append("the killed worker is not paid")
    if killed in {one.worker for one in parts[-1].found.stages}:
        problems.append("the killed worker is said to have ended the answer")
    for number, one in enumerate(parts):
        if one.outcome.resolution is not Resolution.VERIFIED:
            problems.append(f"request {number + 1} is {one.outcome.resolution}, not verified")
        if one.found.price != _compute_price(one.found, workers, _count_billed(one.found), one.found.tokens):
            problems.append(f"request {number + 1} costs {one.found.price} nmyl, which are not those of its positions")
    limit = compute_undisturbed(parts, workers) + _compute_price(parts[-1].found, workers, 1, 0)
    if (cost := sum(one.found.price for one in parts)) > limit:
        problems.append(f"{cost} nmyl are more than the {limit} of the same answer in one request")
    return problems


def compute_undisturbed(parts: Sequence[SettledPart], workers: Mapping[bytes, WorkerEntry]) -> int:
    """What prompt and tokens of the whole answer would have cost in one request, in nmyl."""
    prompt, last = parts[0].found.prompt_tokens, parts[-1].found
    return _compute_price(last, workers, prompt, last.prompt_tokens - prompt + last.tokens)


def _count_billed(found: Request) -> int:
    """Tokens that a request bills as prompt."""
    return min(found.prompt_tokens, found.positions) - found.first_window * WINDOW_POSITIONS


def _compute_price(found: Request, workers: Mapping[bytes, WorkerEntry], prompt: int, tokens: int) -> int:
    asks = [workers[one.worker] for one in found.stages]
    path = [PathStage(one.worker, one.start, one.end, one.prefill_price, one.decode_price) for one in asks]
    return sum(compute_stage_price(one, prompt, tokens) for one in path)
