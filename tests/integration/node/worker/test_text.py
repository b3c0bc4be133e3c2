"""Text over three workers and libp2p is that of the same shards in one process, and greedily of the unsharded model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import trio

from inference.decoding.draw import sample
from inference.engine.engine import load_session
from inference.engine.ort import ShardSession
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.serving.client import SettlementSent
from node.verifier.judge import Judge
from proto_specs.types.calls import Outcome
from proto_specs.types.sampling import SamplingParams
from tests.actors.cut_model import CutModel
from tests.integration.conftest import Model
from tests.integration.node.verifier.judging import Verifier
from tests.integration.node.worker.network import GREEDY, Network, open_network

RANGES = [(0, 10), (10, 20), (20, 30)]
TOKENS = 64
AT_ONCE = 6
QUESTIONS = (
    "What is the capital of France?",
    "Name three colours of the rainbow.",
    "Explain gravity to a child.",
    "Write a haiku about autumn.",
    "What is two plus two?",
    "List the planets of the solar system.",
    "Tell me a short story about a fox.",
    "How do I boil an egg?",
    "What does a compiler do?",
    "Translate 'good morning' into French.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "Who wrote Hamlet?",
    "What is photosynthesis?",
    "Write one sentence about the sea.",
    "How many days are in a leap year?",
    "What is the opposite of hot?",
    "Describe a cat in five words.",
    "What is a prime number?",
    "Say hello in Spanish.",
)


@pytest.fixture(scope="module")
def whole(model: Model) -> ShardSession:
    return load_session(model.store, model.model_id, 0, 30, threads=1, verify=False)


@pytest.fixture(scope="module")
def cut(model: Model) -> CutModel:
    return CutModel(model.store, model.model_id, RANGES)


@pytest.fixture(scope="module")
def prompts(model: Model) -> list[tuple[int, ...]]:
    tokenizer = Tokenizer.load(model.store, model.model_id)
    return [tuple(tokenizer.encode_chat([{"role": "user", "content": one}])) for one in QUESTIONS]


def generate(
    session: ShardSession | CutModel, prompt: Sequence[int], eos: Sequence[int], params: SamplingParams
) -> list[int]:
    """Token by token in one session, of the whole model or of its shards in turn."""
    kv = session.open_kv(len(prompt) + TOKENS)
    rows = np.array(prompt, dtype=np.uint32)
    tokens: list[int] = []
    while len(tokens) < TOKENS and not (tokens and tokens[-1] in eos):
        logits = session.run(kv, rows, (len(rows) - 1,)).logits
        assert logits is not None
        tokens.append(sample(logits[0], params, kv.length - 1))
        rows = np.array(tokens[-1:], dtype=np.uint32)
    return tokens


def is_greedy_text(whole: ShardSession, prompt: Sequence[int], tokens: Sequence[int], eos: Sequence[int]) -> bool:
    """Whether the whole model, greedily from `prompt`, gives `tokens` and stops there.

    One pass instead of 64: given that the tokens before are the model's, each next one must be its choice, and a pass
    over many rows gives the logits of a pass over one (tests/unit/inference/engine/test_engine.py).
    """
    rows = np.array([*prompt, *tokens[:-1]], dtype=np.uint32)
    asked = tuple(range(len(prompt) - 1, len(rows)))
    logits = whole.run(whole.open_kv(len(rows)), rows, asked).logits
    assert logits is not None
    is_ended = len(tokens) == TOKENS or tokens[-1] in eos
    return is_ended and [int(one) for one in logits.argmax(axis=1)] == list(tokens)


async def ask_all(
    network: Network, prompts: Sequence[tuple[int, ...]], params: SamplingParams, first: int = 0
) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def ask(number: int) -> None:
        async with limiter:
            order = network.make_order(prompts[number], TOKENS, first + number, {"sampling": params})
            found[number], end = await network.ask(order, prompts[number])
            assert isinstance(end, SettlementSent), end

    async with trio.open_nursery() as nursery:
        for number in range(len(prompts)):
            nursery.start_soon(ask, number)
    return [found[number] for number in range(len(prompts))]


@pytest.mark.slow
async def test_twenty_prompts_give_the_text_of_the_unsharded_model(
    model: Model, whole: ShardSession, cut: CutModel, prompts: list[tuple[int, ...]]
) -> None:
    """What a bf16 wire rounds moves logits by up to 0.16, and none of these thousand greedy tokens."""
    eos = model.manifest.eos_tokens
    async with open_network(model, RANGES, kv_positions=8192) as network:
        texts = await ask_all(network, prompts, GREEDY)
        await network.wait_idle()
    wrong = [
        question
        for question, prompt, tokens in zip(QUESTIONS, prompts, texts, strict=True)
        if not is_greedy_text(whole, prompt, tokens, eos)
    ]
    assert wrong == []
    assert len(texts) == 20
    assert generate(whole, prompts[0], eos, GREEDY) == texts[0] == generate(cut, prompts[0], eos, GREEDY)
    assert not is_greedy_text(whole, prompts[0], [*texts[0][:-1], (texts[0][-1] + 1) % 1000], eos)


@pytest.mark.slow
async def test_sampled_text_is_that_of_one_process_and_verifies(
    model: Model, cut: CutModel, prompts: list[tuple[int, ...]], tmp_path: Path
) -> None:
    params = SamplingParams(900, 40, 950, 20_261_123)
    async with open_network(model, RANGES) as network:
        texts = await ask_all(network, prompts[6:8], params)
        await network.wait_idle()
        verifier = Verifier(network, Judge(model.store), tmp_path)
        last = network.stages[2].archive
        for settle in last.settlements.values():
            for window in range(settle.stage_roots[2].roots.windows):
                verdict = await verifier.judge(settle, 2, window)
                assert verdict is not None
                assert (verdict.outcome, verdict.token_mismatches) == (Outcome.PASS, 0)
                assert verdict.distance_ppb <= model.manifest.profile.threshold_ppb // 10
    expected = [generate(cut, one, model.manifest.eos_tokens, params) for one in prompts[6:8]]
    assert texts == expected
    greedy = [generate(cut, one, model.manifest.eos_tokens, GREEDY) for one in prompts[6:8]]
    assert texts != greedy, "the parameters make a difference"
