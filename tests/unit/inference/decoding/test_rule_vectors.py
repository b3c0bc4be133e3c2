"""The golden vectors of the decoding rules, for our code and for a plain one written from the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proto_specs
from inference.decoding.chooser import TokenChooser
from inference.decoding.draw import compute_noise, draw_words
from inference.decoding.grammar import GrammarEngine
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.codec import decode
from proto_specs.types.sampling import SamplingParams, compute_grammar_hash
from tests.vectors.decoding import build_rules

RULES = json.loads((Path(proto_specs.__file__).parent / "vectors" / "sampling.json").read_text())["rules"]
SPELLED = tuple(bytes.fromhex(one) for one in RULES["vocabulary"]["spelled"])
CONTROLS = {int(token): name.encode() for token, name in RULES["vocabulary"]["controls"].items()}
EOS = tuple(RULES["vocabulary"]["eos"])
CASES = RULES["cases"]


def make(case: dict[str, Any]) -> TokenChooser:
    params = decode(SamplingParams, bytes.fromhex(case["params"]))
    state, text = None, case["grammar"].encode()
    if params.grammar is not None:
        assert compute_grammar_hash(text) == params.grammar.text_hash
        state = GrammarEngine(Vocabulary(SPELLED, CONTROLS), EOS, len(SPELLED)).compile(params.grammar.kind, text)
    return TokenChooser(params, EOS, case["prompt"], Vocabulary(SPELLED, CONTROLS), state)


@pytest.mark.parametrize("case", CASES, ids=lambda one: one["name"])
def test_worker_and_verifier_follow_the_vectors(case: dict[str, Any]) -> None:
    worker, verifier = make(case), make(case)
    for step in case["steps"]:
        logits, position = np.array(step["logits"], np.float32), step["position"]
        for margin, expected in step["consistent"].items():
            claims = range(-1, len(SPELLED) + 2)
            found = [one for one in claims if verifier.is_consistent(logits, position, one, int(margin) / 1e6)]
            assert found == expected
        drawn = worker.choose(logits, position)
        assert (drawn.token, drawn.is_end) == (step["token"], step["is_end"])
        assert verifier.advance(drawn.token) == drawn.is_end
        assert [one.token for one in drawn.logprobs] == [token for token, _ in step["logprobs"]]
        for one, (_, micro) in zip(drawn.logprobs, step["logprobs"], strict=True):
            assert abs(one.logprob_micro - micro) <= 1


def draw_plainly(params: SamplingParams, prompt: list[int], before: list[int], row: list[float], position: int) -> int:
    """Rules 2 to 9 of the page, one token at a time."""
    x = list(row)
    for i in range(len(x)):
        r = params.repetition_penalty_milli / 1000
        if i in prompt or i in before:
            x[i] = x[i] / r if x[i] > 0 else x[i] * r
        if i in before:
            x[i] -= params.frequency_penalty_milli / 1000 * before.count(i) + params.presence_penalty_milli / 1000
        x[i] += sum(one.bias_milli / 1000 for one in params.logit_bias if one.token == i)
    ranks = sorted(range(len(x)), key=lambda i: (-x[i], i))
    if params.temperature_milli == 0:
        return ranks[0]
    heat = params.temperature_milli / 1000
    kept = ranks[: params.top_k or len(ranks)]
    weights = [math.exp((x[i] - x[ranks[0]]) / heat) for i in kept]
    if params.top_p_milli < 1000:
        kept = [i for k, i in enumerate(kept) if sum(weights[:k]) / sum(weights) < params.top_p_milli / 1000]
    if params.min_p_milli:
        kept = [i for i in kept if math.exp((x[i] - x[ranks[0]]) / heat) >= params.min_p_milli / 1000 - 1e-12]
    noise = compute_noise(draw_words(params.seed, position, len(x)))
    return max(kept, key=lambda i: (x[i] + heat * noise[i], -i))


@pytest.mark.parametrize("case", [one for one in CASES if not one["grammar"]], ids=lambda one: one["name"])
def test_a_plain_reading_of_the_page_draws_the_same(case: dict[str, Any]) -> None:
    params = decode(SamplingParams, bytes.fromhex(case["params"]))
    before: list[int] = []
    text = b""
    for step in case["steps"]:
        assert draw_plainly(params, case["prompt"], before, step["logits"], step["position"]) == step["token"]
        before.append(step["token"])
        text += SPELLED[step["token"]]
        assert step["is_end"] == (step["token"] in EOS or any(one in text for one in params.stop))


def test_the_file_is_what_its_builder_writes() -> None:
    assert json.loads(json.dumps(build_rules())) == RULES
