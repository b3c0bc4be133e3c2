"""Three workers over real libp2p with the real model: the text of one process, signed leaves, typed refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import trio

from inference.model.tokenizer.tokenizer import Tokenizer
from inference.serving.client import RequestFailed, SettlementSent
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.wire import FailureCode
from tests.actors.cut_model import CutModel
from tests.integration.conftest import Model
from tests.integration.node.worker.network import SESSION, Network, open_network

RANGES = [(0, 10), (10, 20), (20, 30)]


def encode_prompt(model: Model, text: str) -> tuple[int, ...]:
    return tuple(Tokenizer.load(model.store, model.model_id).encode_chat([{"role": "user", "content": text}]))


def generate_alone(model: Model, prompt: tuple[int, ...], count: int) -> list[int]:
    """Greedy tokens of the same shards in one process."""
    session = CutModel(model.store, model.model_id, RANGES)
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
            await stage.archive.wait_kept(request_count)


async def test_three_workers_give_the_text_of_one_process(model: Model) -> None:
    prompt = encode_prompt(model, "What is the capital of France?")
    alone = generate_alone(model, prompt, 40)
    async with open_network(model, RANGES) as network:
        tokens, end = await network.ask(network.make_order(prompt, 40, 0), prompt)
        assert isinstance(end, SettlementSent), end
        assert tokens == alone
        await wait_settled(network, 1)
        assert len(network.stages[-1].archive.settlements) == 1
        (settle,) = network.stages[-1].archive.settlements.values()
        assert [one.roots.stage for one in settle.stage_roots] == [0, 1, 2]


BAD_ORDERS: list[tuple[dict[str, object], FailureCode]] = [
    ({"genesis": b"x" * 32}, FailureCode.BAD_ORDER),
    ({"model": b"x" * 32}, FailureCode.UNKNOWN_MODEL),
    ({"session": b"x" * 32}, FailureCode.NO_ESCROW),
    ({"tokens_max": 100_000}, FailureCode.BAD_ORDER),
    ({"sampling": SamplingParams(700, 0, 1001, 0)}, FailureCode.BAD_ORDER),
    ({"prompt_hash": b"x" * 32}, FailureCode.BAD_INPUT),
]


async def test_bad_orders_are_refused_with_their_reason(model: Model) -> None:
    prompt = (1, 2, 3)
    async with open_network(model, RANGES) as network:
        for sequence, (changes, code) in enumerate(BAD_ORDERS):
            tokens, end = await network.ask(network.make_order(prompt, 8, sequence, changes), prompt)
            assert tokens == []
            assert isinstance(end, RequestFailed)
            assert end.code == code, (changes, end)
        await network.wait_idle()


async def test_tokens_outside_the_vocabulary_are_refused(model: Model) -> None:
    prompt = (1, 2**32 - 1, 3)
    async with open_network(model, RANGES) as network:
        _, end = await network.ask(network.make_order(prompt, 8, 0), prompt)
        assert isinstance(end, RequestFailed)
        assert end.code == FailureCode.BAD_INPUT
        assert "vocabulary" in end.message
        await network.wait_idle()


async def test_too_dear_a_request_is_refused(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        poor = dataclasses.replace(network.chain.sessions[SESSION], escrow=10)
        network.chain.sessions[SESSION] = poor
        _, end = await network.ask(network.make_order((1, 2), 8, 0), (1, 2))
        assert isinstance(end, RequestFailed)
        assert end.code == FailureCode.NO_ESCROW
        assert "nmyl" in end.message
