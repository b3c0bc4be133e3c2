"""Speculation through three workers and libp2p: the same text in fewer round trips, and verifiers pass every window."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from inference.drafting.model_drafter import DraftModel
from inference.engine.engine import StageEngine, load_session
from inference.engine.ort import ShardSession
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.serving.client import SettlementSent
from node.verifier.judge import Judge
from node.worker.drafting import NO_DRAFTS, DraftSource
from proto_specs.types.calls import Outcome
from proto_specs.types.sampling import GrammarKind, SamplingParams, make_grammar
from tests.integration.conftest import Model
from tests.integration.node.verifier.judging import Verifier
from tests.integration.node.worker.network import GREEDY, Network, open_network

RANGES = [(0, 10), (10, 20), (20, 30)]
LETTER = (
    "Dear Ms. Andersen,\n\nThank you for your letter of the 14th. We have looked at the three options you described and"
    " would like to go ahead with the second one, the renovation of the east wing, starting in the first week of May."
    " The costs would be shared as follows: our company covers the materials and two thirds of the labour, and the city"
    " covers the remaining third.\n\nKind regards,\nPeter Holm"
)
COPY = f"Repeat the following letter word for word:\n\n{LETTER}"
GRAMMAR = b'start: "Dear Ms. Andersen," /[^?]{40,90}/'
SAMPLED = SamplingParams(600, 0, 950, 11, 0, 1050, presence_penalty_milli=100, stop=(b"Peter",))
RULED = replace(SAMPLED, stop=(), grammar=make_grammar(GrammarKind.LARK, GRAMMAR))
ASKED: tuple[tuple[str, SamplingParams, bytes], ...] = (
    (COPY, GREEDY, b""),
    (COPY, SAMPLED, b""),
    ("Tell me about the city of Venice.", SAMPLED, b""),
    (COPY, RULED, GRAMMAR),
)
TOKENS = 72


@pytest.fixture(scope="module")
def shards(model: Model) -> dict[int, ShardSession]:
    return {
        at: load_session(model.store, model.model_id, *layers, threads=1, verify=False)
        for at, layers in enumerate(RANGES)
    }


@pytest.fixture(scope="module")
def tokenizer(model: Model) -> Tokenizer:
    return Tokenizer.load(model.store, model.model_id)


def open_path(
    model: Model, shards: dict[int, ShardSession], drafts: DraftSource
) -> AbstractAsyncContextManager[Network]:
    return open_network(model, RANGES, sessions=shards, drafts=drafts)


async def ask_all(network: Network, tokenizer: Tokenizer) -> tuple[list[list[int]], list[int]]:
    """Each answer, and the passes that the last shard took for it."""
    answers, passes = [], []
    for number, (question, rules, grammar) in enumerate(ASKED):
        prompt = tuple(tokenizer.encode_chat([{"role": "user", "content": question}]))
        before = network.stages[2].compute.steps
        order = network.make_order(prompt, TOKENS, number, {"sampling": rules})
        tokens, end = await network.ask(order, prompt, grammar)
        assert isinstance(end, SettlementSent), end
        answers.append(tokens)
        await network.wait_idle()
        passes.append(network.stages[2].compute.steps - before)
    return answers, passes


@pytest.mark.slow
async def test_drafts_change_no_text_and_verifiers_pass_every_window(
    model: Model, shards: dict[int, ShardSession], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    async with open_path(model, shards, NO_DRAFTS) as network:
        plain, plain_passes = await ask_all(network, tokenizer)
        bills = list(network.stages[2].archive.settlements.values())
    async with open_path(model, shards, DraftSource()) as network:
        answers, passes = await ask_all(network, tokenizer)
        verifier = Verifier(network, Judge(model.store), tmp_path)
        settlements = list(network.stages[2].archive.settlements.values())
        for settle in settlements:
            for stage, signed in enumerate(settle.stage_roots):
                for window in range(signed.roots.windows):
                    verdict = await verifier.judge(settle, stage, window)
                    assert verdict is not None
                    assert (verdict.outcome, verdict.token_mismatches) == (Outcome.PASS, 0)
    assert answers == plain
    assert [one.voucher for one in settlements] == [one.voucher for one in bills]
    assert passes[0] <= plain_passes[0] // 4, (passes, plain_passes)
    assert passes[2] <= plain_passes[2]


@pytest.mark.slow
async def test_a_draft_model_changes_no_text(
    model: Model, shards: dict[int, ShardSession], tokenizer: Tokenizer
) -> None:
    whole = load_session(model.store, model.model_id, 0, 30, threads=1, verify=False)
    engine = StageEngine(whole, 2_000)
    async with open_path(model, shards, NO_DRAFTS) as network:
        plain, plain_passes = await ask_all(network, tokenizer)
    async with open_path(model, shards, DraftSource(model=DraftModel(engine, model.manifest))) as network:
        answers, passes = await ask_all(network, tokenizer)
    assert answers == plain
    assert sum(passes) < sum(plain_passes), (passes, plain_passes)
    assert engine.budget.free == engine.budget.total, "its memory is free again"
