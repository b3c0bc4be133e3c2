"""Real workers that are lost in mid-answer, with a warm spare of each range: two at once, and one that comes back.

`kill -9` of a single one is the demo's (`test_demo.py`) and the benchmark's (`benchmarks/network/kills.py`).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from benchmarks.network.kills import MAX_PRICE, SAMPLED, open_spared
from inference.model.fetch import cache_dir
from inference.model.tokenizer.tokenizer import Tokenizer
from myelin.client import Client, connect
from node.client.answer import Answer, Ask, Generated, Resolution
from node.keys.derivation import KeyKind
from node.keys.keystore import get_dev_key
from tests.integration.conftest import Model

pytestmark = [pytest.mark.slow, pytest.mark.leaves_open]

TOKENS = 110
AT = 75
QUESTION = "Tell me a long story about a river."


async def read(client: Client, model: Model, lose: object = None) -> tuple[list[int], Answer]:
    """The tokens of an answer drawn at a temperature. `lose` is told of the answer at token number `AT`."""
    prompt = tuple(Tokenizer.load(model.store, model.model_id).encode_chat([{"role": "user", "content": QUESTION}]))
    tokens: list[int] = []
    async with client.inference.ask(Ask(model.model_id, prompt, TOKENS, SAMPLED, MAX_PRICE)) as answer:
        async for item in answer:
            assert isinstance(item, Generated)
            tokens.append(item.token)
            if len(tokens) == AT and lose is not None:
                await lose(answer)  # type: ignore[operator]
    return tokens, answer


async def wait_verified(client: Client, answer: Answer) -> None:
    """Until every order of the answer is settled and verified: those of lost stages too."""
    with trio.fail_after(90):
        for request in answer.requests:  # type: ignore[attr-defined]
            while (await client.outcome(request)).resolution is not Resolution.VERIFIED:
                await trio.sleep(0.2)


async def test_two_stages_at_once_and_one_that_comes_back(model: Model, tmp_path: Path) -> None:
    layers = model.manifest.architecture.layers
    async with open_spared(model.model_id.hex(), cache_dir() / "models", layers, tmp_path / "net") as (net, plan):
        names = {get_dev_key(one.name, KeyKind.WORKER).public_key: one.name for one in plan.workers}
        seed = get_dev_key("client", KeyKind.ACCOUNT).seed
        where = {"models": cache_dir() / "models", "sessions": tmp_path / "sessions"}
        async with connect(rpc=plan.validators[0].rpc_url, seed=seed, **where) as client:  # type: ignore[arg-type]
            whole, undisturbed = await read(client, model)
            assert not undisturbed.moves
            killed: list[str] = []

            async def kill_two(answer: Answer) -> None:
                killed.extend(names[one.worker] for one in answer.path[:2])
                for name in killed:
                    await net.kill(name)

            tokens, answer = await read(client, model, kill_two)
            assert tokens == whole
            assert {names[one.worker] for one in answer.moves} <= set(killed)
            for name in killed:
                await net.start(name)
            await wait_verified(client, answer)

            stopped: list[int] = []

            async def stop_one(answer: Answer) -> None:
                assert net.state is not None
                stopped.append(net.state.processes[names[answer.path[1].worker]].identity.pid)
                os.kill(stopped[0], signal.SIGSTOP)

            try:
                tokens, answer = await read(client, model, stop_one)
            finally:
                os.kill(stopped[0], signal.SIGCONT)  # what it still sends is of an order that is over
            assert tokens == whole
            (move,) = answer.moves
            assert move.resumed_s - move.lost_s < 5
            await wait_verified(client, answer)
            again, _ = await read(client, model)
            assert again == whole
