"""Decoding rules through three workers and libp2p: a verifier accepts what a worker draws, and nothing in its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from inference.decoding.source import ChooserSource
from inference.engine.engine import load_session
from inference.engine.verify import SampledTokens, verify_window
from inference.engine.wire_dtype import decode_rows
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.serving.client import PromptScored, RequestFailed, SettlementSent, TokenReceived
from inference.serving.opening import authenticate_opening
from inference.serving.record import make_opening
from node.verifier.judge import Judge
from proto_specs.types.calls import Outcome
from proto_specs.types.manifest import WireDtype
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, make_grammar
from proto_specs.types.wire import FailureCode, FinishReason
from tests.integration.conftest import Model
from tests.integration.node.verifier.judging import Verifier
from tests.integration.node.worker.network import GREEDY, SESSION_KEY, Told, open_network

RANGES = [(0, 10), (10, 20), (20, 30)]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "people": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
        "sights": {"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "string", "maxLength": 20}},
    },
    "required": ["city", "people", "sights"],
    "additionalProperties": False,
}
TEXT = json.dumps(SCHEMA).encode()
EVERYTHING = SamplingParams(
    temperature_milli=800,
    top_k=50,
    top_p_milli=950,
    seed=11,
    min_p_milli=20,
    repetition_penalty_milli=1150,
    presence_penalty_milli=200,
    frequency_penalty_milli=100,
    logit_bias=(TokenBias(28, -1000),),
    grammar=make_grammar(GrammarKind.JSON_SCHEMA, TEXT),
    logprobs=3,
    prompt_logprobs=True,
)
RULES: dict[str, SamplingParams] = {
    "repetition": replace(GREEDY, repetition_penalty_milli=1300),
    "presence and frequency": replace(GREEDY, presence_penalty_milli=1500, frequency_penalty_milli=700),
    "min-p": replace(GREEDY, temperature_milli=1500, seed=5, min_p_milli=200),
}


@pytest.fixture(scope="module")
def tokenizer(model: Model) -> Tokenizer:
    return Tokenizer.load(model.store, model.model_id)


def encode(tokenizer: Tokenizer, question: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode_chat([{"role": "user", "content": question}]))


@pytest.mark.slow
async def test_what_every_rule_draws_is_verified_and_no_other_token_is(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    prompt = encode(tokenizer, "Which city has the Eiffel Tower, and how many people live in it? Answer in JSON.")
    assert len(prompt) > 32, "the history reaches over a window"
    told: list[Told] = []
    async with open_network(model, RANGES) as network:
        order = network.make_order(prompt, 120, 0, {"sampling": EVERYTHING})
        tokens, end = await network.ask(order, prompt, TEXT, told)
        assert isinstance(end, SettlementSent), end
        plain = None
        for number, (_, rules) in enumerate(RULES.items(), 1):
            texts, end = await network.ask(network.make_order(prompt, 40, number, {"sampling": rules}), prompt)
            assert isinstance(end, SettlementSent), end
            plain = plain or texts
            assert number == 1 or texts != plain, "the rules make a difference"
        await network.wait_idle()
        judge = Judge(model.store)
        verifier = Verifier(network, judge, tmp_path)
        for settle in network.stages[2].archive.settlements.values():
            for window in range(settle.stage_roots[2].roots.windows):
                verdict = await verifier.judge(settle, 2, window)
                assert verdict is not None
                assert (verdict.outcome, verdict.token_mismatches) == (Outcome.PASS, 0)
        record = network.stages[2].archive.records
    answer = b"".join(tokenizer.get_token_bytes(one) for one in tokens)
    received = [one for one in told if isinstance(one, TokenReceived)]
    assert received[-1].finish == FinishReason.STOP
    jsonschema.validate(json.loads(answer), SCHEMA)
    assert all(len(one.logprobs) == 3 and one.logprobs[0].token == one.token for one in received)
    scored = [row for one in told if isinstance(one, PromptScored) for row in one.rows]
    assert [row[0].token for row in scored] == list(prompt[1:])
    whole = load_session(model.store, model.model_id, 0, 30, threads=1, verify=False)
    logits = whole.run(whole.open_kv(len(prompt)), np.array(prompt, np.uint32), (0, 20)).logits
    assert logits is not None
    for row, at in zip(logits.astype(np.float64), (0, 20), strict=True):
        exact = row[prompt[at + 1]] - row.max() - np.log(np.exp(row - row.max()).sum())
        assert scored[at][0].logprob_micro / 1e6 == pytest.approx(exact, abs=0.3), "a bf16 wire rounds"
    kept = next(one for one in record.values() if one.order == order)
    settle = next(one for one in network.stages[2].archive.settlements.values() if one.order == order)
    roots = settle.stage_roots[2].roots
    opening = make_opening(kept, roots.windows - 1)
    proved = authenticate_opening(opening, roots, roots.windows - 1, SESSION_KEY.public_key, model.manifest)
    assert proved.drawn
    wire, hidden = WireDtype(model.manifest.wire_dtype), model.manifest.architecture.hidden
    last = load_session(model.store, model.model_id, 20, 30, threads=1, verify=False)
    source = ChooserSource(model.store, model.model_id, model.manifest)

    def judge_tokens(claimed: tuple[int, ...], **changes: object) -> tuple[int, ...]:
        rules = replace(EVERYTHING, **changes)  # type: ignore[arg-type]
        chooser = source.make(rules, proved.prompt, proved.grammar)
        sampled = SampledTokens(claimed, proved.sampled_from, chooser, proved.drawn)
        inputs, output = (decode_rows(one, wire, hidden) for one in (proved.inputs, proved.output))
        profile = model.manifest.profile
        return verify_window(last, inputs, proved.window_start, output, profile, bytes(32), sampled).token_mismatches

    assert judge_tokens(proved.tokens) == ()
    missed = 0
    for place, token in enumerate(proved.tokens):
        changed = (*proved.tokens[:place], (token + 1) % 49152, *proved.tokens[place + 1 :])
        missed += proved.sampled_from + place not in judge_tokens(changed)
    assert missed <= 2, "a digit's neighbour may be as likely to within the margin of a bf16 wire"
    assert judge_tokens((0, *proved.tokens[1:]))[0] == proved.sampled_from, "the answer is not complete there"
    for changes in ({"seed": 12}, {"grammar": None, "temperature_milli": 0}, {"presence_penalty_milli": 9000}):
        assert judge_tokens(proved.tokens, **changes) != ()


@pytest.mark.slow
async def test_a_stop_string_ends_the_answer_and_the_verifier_knows(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    prompt = encode(tokenizer, "Count from one to ten.")
    told: list[Told] = []
    async with open_network(model, RANGES) as network:
        free, _ = await network.ask(network.make_order(prompt, 30, 0), prompt)
        text = b"".join(tokenizer.get_token_bytes(one) for one in free)
        stop = text[len(text) // 2 : len(text) // 2 + 4]
        rules = replace(GREEDY, stop=(b"never to be seen", stop))
        tokens, end = await network.ask(network.make_order(prompt, 30, 1, {"sampling": rules}), prompt, b"", told)
        assert isinstance(end, SettlementSent), end
        await network.wait_idle()
        verifier = Verifier(network, Judge(model.store), tmp_path)
        settle = next(one for one in network.stages[2].archive.settlements.values() if one.order.order.sequence == 1)
        for window in range(settle.stage_roots[2].roots.windows):
            verdict = await verifier.judge(settle, 2, window)
            assert verdict is not None
            assert (verdict.outcome, verdict.token_mismatches) == (Outcome.PASS, 0)
    assert free[: len(tokens)] == tokens
    answer = b"".join(tokenizer.get_token_bytes(one) for one in tokens)
    assert stop in answer
    assert stop not in b"".join(tokenizer.get_token_bytes(one) for one in tokens[:-1])
    last = next(one for one in reversed(told) if isinstance(one, TokenReceived))
    assert last.finish == FinishReason.STOP


@pytest.mark.slow
async def test_orders_whose_rules_nobody_can_follow_are_refused_before_anything_is_taken(
    model: Model, tokenizer: Tokenizer
) -> None:
    prompt = encode(tokenizer, "Hello")
    broken = b'{"type":"nothing"}'
    rules = replace(GREEDY, grammar=make_grammar(GrammarKind.JSON_SCHEMA, broken))
    other = replace(GREEDY, grammar=make_grammar(GrammarKind.JSON_SCHEMA, TEXT))
    cases = [
        (rules, broken, "cannot be followed"),
        (other, broken, "not the one it names"),
        (other, b"", "missing"),
        (GREEDY, TEXT, "do not read"),
    ]
    async with open_network(model, RANGES) as network:
        for number, (sampling, grammar, reason) in enumerate(cases):
            order = network.make_order(prompt, 5, number, {"sampling": sampling})
            tokens, end = await network.ask(order, prompt, grammar)
            assert tokens == []
            assert isinstance(end, RequestFailed)
            assert (end.stage, end.code) == (2, FailureCode.BAD_ORDER)
            assert reason in end.message
            assert network.stages[2].is_idle
        tokens, end = await network.ask(network.make_order(prompt, 5, len(cases)), prompt)
        assert isinstance(end, SettlementSent)
