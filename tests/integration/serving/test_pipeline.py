"""Three workers over real libp2p with the real model: the text of one process, signed leaves, typed refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trio

from inference.engine.engine import load_session
from inference.model.tokenizer import Tokenizer
from inference.serving.client import RequestFailed, SettlementSent
from proto_specs.types.wire import FailureCode
from tests.integration.serving.conftest import Model
from tests.integration.serving.network import SESSION, Network, open_network

RANGES = [(0, 10), (10, 20), (20, 30)]


def encode_prompt(model: Model, text: str) -> tuple[int, ...]:
    return tuple(Tokenizer.load(model.store, model.model_id).encode_chat([{"role": "user", "content": text}]))


def generate_alone(model: Model, prompt: tuple[int, ...], count: int) -> list[int]:
    """Greedy tokens of the unsharded model in one session."""
    session = load_session(model.store, model.model_id, 0, 30, threads=1, verify=False)
    kv = session.open_kv(len(prompt) + count)
    rows = np.array(prompt, dtype=np.uint32)
    tokens: list[int] = []
    while len(tokens) < count:
        output = session.run(kv, rows, (len(rows) - 1,))
        assert output.logits is not None
        tokens.append(int(np.argmax(output.logits[0])))
        if tokens[-1] in model.manifest.eos_tokens:
            break
        rows = np.array(tokens[-1:], dtype=np.uint32)
    return tokens


async def wait_settled(network: Network, request_count: int) -> None:
    with trio.fail_after(10):
        for stage in network.stages:
            await stage.keeper.wait_kept(request_count)


async def test_three_workers_give_the_text_of_one_process(model: Model) -> None:
    prompt = encode_prompt(model, "What is the capital of France?")
    alone = generate_alone(model, prompt, 40)
    async with open_network(model, RANGES) as network:
        tokens, end = await network.ask(network.make_order(prompt, 40, 0), prompt)
        assert isinstance(end, SettlementSent), end
        assert tokens == alone
        await wait_settled(network, 1)
        assert len(network.stages[-1].keeper.settlements) == 1
        (settle,) = network.stages[-1].keeper.settlements.values()
        assert [one.roots.stage for one in settle.stage_roots] == [0, 1, 2]


async def test_concurrent_requests_do_not_disturb_each_other(model: Model) -> None:
    prompts = [encode_prompt(model, text) for text in ("Name a colour.", "What is two plus two?", "Say hello.")]
    alone = [generate_alone(model, one, 12) for one in prompts]
    found: dict[int, list[int]] = {}
    async with open_network(model, RANGES) as network:

        async def ask(number: int) -> None:
            order = network.make_order(prompts[number], 12, number)
            found[number], end = await network.ask(order, prompts[number])
            assert isinstance(end, SettlementSent), end

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(ask, number)
        assert [found[number] for number in range(3)] == alone


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"genesis": b"x" * 32}, FailureCode.BAD_ORDER),
        ({"model": b"x" * 32}, FailureCode.UNKNOWN_MODEL),
        ({"session": b"x" * 32}, FailureCode.NO_ESCROW),
        ({"tokens_max": 100_000}, FailureCode.BAD_ORDER),
        ({"prompt_hash": b"x" * 32}, FailureCode.BAD_INPUT),
    ],
)
async def test_bad_orders_are_refused_with_their_reason(model: Model, changes: dict[str, object], code: int) -> None:
    prompt = (1, 2, 3)
    async with open_network(model, [(0, 10), (10, 20), (20, 30)]) as network:
        tokens, end = await network.ask(network.make_order(prompt, 8, 0, changes), prompt)
        assert tokens == []
        assert isinstance(end, RequestFailed)
        assert end.code == code
        assert not network.stages[0].server.requests


async def test_too_dear_a_request_is_refused(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        poor = dataclasses.replace(network.chain.sessions[SESSION], escrow=10)
        network.chain.sessions[SESSION] = poor
        _, end = await network.ask(network.make_order((1, 2), 8, 0), (1, 2))
        assert isinstance(end, RequestFailed)
        assert end.code == FailureCode.NO_ESCROW
        assert "nmyl" in end.message


async def test_no_kv_memory_is_an_explicit_refusal(model: Model) -> None:
    async with open_network(model, RANGES, kv_positions=16) as network:
        _, end = await network.ask(network.make_order((1, 2), 64, 0), (1, 2))
        assert isinstance(end, RequestFailed)
        assert end.code == FailureCode.NO_CAPACITY
