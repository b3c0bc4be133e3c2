"""Writes the part `rules` of proto_specs/vectors/sampling.json: python -m tests.vectors.decoding.

Its noise and samples are older and frozen. Writing the rules again is a change of the protocol.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import proto_specs
from inference.decoding.chooser import TokenChooser
from inference.decoding.grammar import GrammarEngine
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.codec import encode
from proto_specs.jsonform import to_json
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, make_grammar

PATH = Path(proto_specs.__file__).parent / "vectors" / "sampling.json"
FORMAT = (
    "see proto_specs/fingerprint.md section 6. 64-bit integers are decimal text. logits: `values`, or count values "
    "((i*step) mod modulus)/divisor, all exact in fp32. noise to 1e-12. rules: a vocabulary (bytes in hex, control "
    "tokens by name, end-of-sequence tokens); in each case `params` encoded in hex and as a value, grammar as text; "
    "`steps` are draws one after another, each with its row's logits: the token, whether the generation ends with it, "
    "[id, millionths of a nat] of its log-probabilities, and by margin (millionths) all ids that are consistent."
)
SPELLED = (b"a", b"b", b"ab", b"c", b'"', b"1", b"2", b"{", b"}", b":", b" ", b"true", b"\xc3", b"\xa9", b"", b"")
CONTROLS = {14: b"<|pad|>", 15: b"<|end|>"}
EOS = (15,)
FIRST = (1.5, 1.25, 2.0, -0.5, 0.75, 0.25, -1.0, 0.5, 0.0, -2.0, -0.25, 1.0, -3.0, -1.5, 2.5, 1.75)
GREEDY = SamplingParams(0, 0, 1000, 0)
HOT = SamplingParams(900, 0, 1000, 2**64 - 3)
MARGINS_MICRO = (0, 2_000, 300_000)


@dataclass(frozen=True)
class Rules:
    """A case. `kind` is the grammar's."""

    name: str
    params: SamplingParams
    prompt: tuple[int, ...] = ()
    steps: int = 4
    kind: GrammarKind | None = None
    grammar: str = ""


def list_rules() -> Iterator[Rules]:
    yield Rules("repetition above 1", replace(GREEDY, repetition_penalty_milli=1500), (14, 3, 3, 9))
    yield Rules("repetition below 1", replace(GREEDY, repetition_penalty_milli=800), (3, 4, 2))
    yield Rules("presence", replace(GREEDY, presence_penalty_milli=600), (14, 2))
    yield Rules("frequency", replace(GREEDY, frequency_penalty_milli=450), (14,), 8)
    yield Rules("frequency that rewards", replace(GREEDY, frequency_penalty_milli=-450))
    yield Rules("bias", replace(GREEDY, logit_bias=(TokenBias(0, 1000), TokenBias(3, 3250), TokenBias(14, -700))))
    yield Rules("min-p", replace(HOT, min_p_milli=400, logit_bias=(TokenBias(15, -9000),)), steps=12)
    yield Rules(
        "min-p after top-k and top-p", replace(HOT, top_k=6, top_p_milli=900, min_p_milli=150, seed=4), steps=12
    )
    yield Rules("min-p of 1", replace(HOT, min_p_milli=1000))
    yield Rules("stop within a token", replace(GREEDY, logit_bias=(TokenBias(2, 9000),), stop=(b"b",)), steps=1)
    stops = replace(GREEDY, stop=(b"abc", b"bab"), logit_bias=(TokenBias(2, 9000),))
    yield Rules("stop over tokens", stops, steps=2)
    yield Rules("end of sequence", replace(GREEDY, logit_bias=(TokenBias(15, 9000),)), steps=1)
    yield Rules("logprobs", replace(HOT, logprobs=4, repetition_penalty_milli=2000), (1,))
    lark = 'start: "ab" "a"* <|pad|> /[12]+/'
    yield Rules("grammar, greedy", GREEDY, (), 5, GrammarKind.LARK, lark)
    yield Rules("grammar, drawn", HOT, (), 6, GrammarKind.LARK, lark)
    schema = '{"type":"object","properties":{"a":{"enum":[1,true]}},"required":["a"],"additionalProperties":false}'
    yield Rules("JSON schema", HOT, (), 8, GrammarKind.JSON_SCHEMA, schema)
    yield Rules("schema without a bracket", GREEDY, (), 4, GrammarKind.JSON_SCHEMA, '{"enum":["é","ab"]}')
    everything = replace(
        HOT,
        top_k=8,
        top_p_milli=950,
        min_p_milli=50,
        repetition_penalty_milli=1200,
        presence_penalty_milli=-300,
        frequency_penalty_milli=500,
        logit_bias=(TokenBias(1, 400),),
        stop=(b"bb",),
        logprobs=2,
    )
    yield Rules("everything", everything, (2, 3), 6, GrammarKind.LARK, "start: /[abc]*/")


def make_chooser(rules: Rules) -> TokenChooser:
    vocabulary = Vocabulary(SPELLED, CONTROLS)
    state, params = None, rules.params
    if rules.kind is not None:
        text = rules.grammar.encode()
        params = replace(params, grammar=make_grammar(rules.kind, text))
        state = GrammarEngine(vocabulary, EOS, len(SPELLED)).compile(rules.kind, text)
    return TokenChooser(params, EOS, rules.prompt, vocabulary, state)


def make_logits(step: int) -> list[float]:
    """A row for each step, of the same values in another order."""
    return [FIRST[(one * 5 + step * 3) % len(FIRST)] for one in range(len(FIRST))]


def list_consistent(verifier: TokenChooser, row: NDArray[np.float32], position: int, margin: float) -> list[int]:
    return [one for one in range(len(SPELLED) + 1) if verifier.is_consistent(row, position, one, margin)]


def show_rules(rules: Rules) -> dict[str, Any]:
    worker, verifier = make_chooser(rules), make_chooser(rules)
    steps = []
    for number in range(rules.steps):
        position, logits = len(rules.prompt) + number, make_logits(number if rules.params.temperature_milli else 0)
        row = np.array(logits, np.float32)
        drawn = worker.choose(row, position)
        consistent = {
            str(margin): [
                one for one in range(-1, len(SPELLED) + 1) if verifier.is_consistent(row, position, one, margin / 1e6)
            ]
            for margin in MARGINS_MICRO
        }
        verifier.advance(drawn.token)
        scores = [[one.token, one.logprob_micro] for one in drawn.logprobs]
        steps.append(
            {
                "position": position,
                "logits": logits,
                "token": drawn.token,
                "is_end": drawn.is_end,
                "logprobs": scores,
                "consistent": consistent,
            }
        )
        if drawn.is_end:
            break
    return {
        "name": rules.name,
        "params": encode(worker.params).hex(),
        "value": to_json(worker.params, 42),
        "prompt": list(rules.prompt),
        "grammar": rules.grammar,
        "steps": steps,
    }


def build_rules() -> dict[str, Any]:
    """What the file has under `rules`."""
    vocabulary = {
        "spelled": [one.hex() for one in SPELLED],
        "controls": {str(token): name.decode() for token, name in CONTROLS.items()},
        "eos": list(EOS),
    }
    return {"vocabulary": vocabulary, "cases": [show_rules(one) for one in list_rules()]}


if __name__ == "__main__":
    kept = json.loads(PATH.read_text("utf-8"))
    made = {"format": FORMAT, "noise": kept["noise"], "samples": kept["samples"], "rules": build_rules()}
    PATH.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
