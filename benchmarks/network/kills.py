"""`kill -9` of a random stage at a random token, with a warm spare of each range: what a reader sees."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import trio

from inference.model.tokenizer.tokenizer import Tokenizer
from myelin.client import connect
from node.client.answer import Ask, Generated, Inference
from node.keys.derivation import KeyKind
from node.keys.keystore import get_dev_key
from node.localnet.localnet import Localnet, open_localnet
from node.localnet.plan import LocalnetPlan, Partitions, Wanted, WorkerPlan, make_plan
from proto_specs.types.sampling import SamplingParams

MAX_PRICE = 1_000_000
GREEDY = SamplingParams(0, 0, 1_000, 0)
SAMPLED = SamplingParams(800, 0, 950, 7)
STAGES = 3
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kill:
    """One killed stage. Seconds are from the kill; `read_bytes`: what all other workers read from files meanwhile.

    A stage that goes on reads the rows that it had put on disk; weights would be tens of megabytes.
    """

    stage: int
    token: int
    is_sampled: bool
    detected_s: float
    resumed_s: float
    is_same: bool
    read_bytes: int


@asynccontextmanager
async def open_spared(
    model: str, models: Path, layers: int, base: Path
) -> AsyncIterator[tuple[Localnet, LocalnetPlan]]:
    """One validator, and two workers for each third of the layers."""
    wanted = Wanted(1, 2 * STAGES, 1_000, Partitions.NONE, delay_ms=0, payers=0)
    plan = make_plan(base, wanted, time.time_ns() // 1_000_000, model, str(models), layers)
    cuts = [layers * one // STAGES for one in range(STAGES + 1)]
    workers = tuple(
        WorkerPlan(one.name, cuts[at % STAGES], cuts[at % STAGES + 1], one.validator)
        for at, one in enumerate(plan.workers)
    )
    plan = replace(plan, workers=workers)
    with open_localnet(base) as net:
        try:
            await net.up(lambda: plan, lambda _text: None)
            yield net, plan
        finally:
            with trio.CancelScope(shield=True):
                await net.down()


async def measure_kills(
    model: bytes, models: Path, layers: int, tokenizer: Tokenizer, rounds: int, seed: int, say: Say
) -> dict[str, Any]:
    """`rounds` answers, each with a worker killed in its middle and started again afterwards."""
    drawn = random.Random(seed)
    base = Path(tempfile.mkdtemp(prefix="myelin-kills-"))
    try:
        async with open_spared(model.hex(), models, layers, base) as (net, plan):
            connected = connect(
                rpc=plan.validators[0].rpc_url,
                seed=get_dev_key("client", KeyKind.ACCOUNT).seed,
                models=models,
                sessions=base / "sessions",
            )
            async with connected as client:
                kills = [kill async for kill in _run(net, plan, client.inference, model, tokenizer, drawn, rounds, say)]
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return {
        "seed": seed,
        "kills": len(kills),
        "same_text": sum(one.is_same for one in kills),
        "detected_s": {"median": median(one.detected_s for one in kills), "max": max(one.detected_s for one in kills)},
        "next_token_s": {"median": median(one.resumed_s for one in kills), "max": max(one.resumed_s for one in kills)},
        "read_bytes": {"median": median(one.read_bytes for one in kills), "max": max(one.read_bytes for one in kills)},
        "each": [asdict(one) for one in kills],
    }


@dataclass(frozen=True)
class _Killing:
    """What every kill needs. `whole` are the undisturbed answers, greedy and sampled."""

    net: Localnet
    plan: LocalnetPlan
    inference: Inference
    model: bytes
    prompt: tuple[int, ...]
    whole: dict[bool, list[int]]

    async def kill_one(self, drawn: random.Random) -> Kill | None:
        """One answer with a kill. The worker is started again at once, as whoever runs it would have it.

        None: the last tokens came in one call, so that the answer was whole when the worker died.
        """
        is_sampled = bool(drawn.getrandbits(1))
        wanted = self.whole[is_sampled]
        stage, at = drawn.randrange(STAGES), drawn.randrange(1, len(wanted) - 2)
        names = {get_dev_key(one.name, KeyKind.WORKER).public_key: one.name for one in self.plan.workers}
        tokens: list[int] = []
        name, killed_s, read = "", 0.0, 0
        found: Kill | None = None
        async with trio.open_nursery() as nursery:
            async for token, answer in _read(self.inference, self.model, self.prompt, is_sampled):
                tokens.append(token)
                if len(tokens) == at:
                    name, killed_s = names[answer.path[stage].worker], trio.current_time()
                    read = _count_read(self.net, self.plan, name)
                    await self.net.kill(name)
                if answer.moves and answer.moves[0].resumed_s and found is None:
                    began_s = trio.current_time() - answer.moves[0].resumed_s
                    lost_s, resumed_s = began_s + answer.moves[0].lost_s - killed_s, trio.current_time() - killed_s
                    read = _count_read(self.net, self.plan, name) - read
                    found = Kill(stage, at, is_sampled, lost_s, resumed_s, False, read)
                    nursery.start_soon(self.net.start, name)
        if found is None and tokens == wanted:
            await self.net.start(name)
            return None
        assert found is not None, f"the answer did not move: {name} was killed at token {at}"
        return replace(found, is_same=tokens == wanted)


async def _run(
    net: Localnet,
    plan: LocalnetPlan,
    inference: Inference,
    model: bytes,
    tokenizer: Tokenizer,
    drawn: random.Random,
    rounds: int,
    say: Say,
) -> AsyncIterator[Kill]:
    prompt = tuple(tokenizer.encode_chat([{"role": "user", "content": "Tell me a long story about a river."}]))
    whole = {one: [token async for token, _ in _read(inference, model, prompt, one)] for one in (False, True)}
    killing = _Killing(net, plan, inference, model, prompt, whole)
    number = 0
    while number < rounds:
        kill = await killing.kill_one(drawn)
        if kill is None:
            continue
        say(
            f"{number + 1:>4} stage {kill.stage} token {kill.token:>3}: lost after {kill.detected_s:.2f} s, next token "
            f"after {kill.resumed_s:.2f} s, {'same text' if kill.is_same else 'OTHER TEXT'}"
        )
        yield kill
        number += 1


def _count_read(net: Localnet, plan: LocalnetPlan, but: str) -> int:
    """Bytes that the workers but one have read from files since they started; the network is not among them."""
    assert net.state is not None
    pids = [net.state.processes[one.name].identity.pid for one in plan.workers if one.name != but]
    return sum(int(Path(f"/proc/{pid}/io").read_text().split()[1]) for pid in pids)


async def _read(
    inference: Inference, model: bytes, prompt: tuple[int, ...], is_sampled: bool
) -> AsyncIterator[tuple[int, Any]]:
    ask = Ask(model, prompt, 160, SAMPLED if is_sampled else GREEDY, MAX_PRICE)
    async with inference.ask(ask) as answer:
        async for item in answer:
            assert isinstance(item, Generated), "no scores are asked for"
            yield item.token, answer
