"""Answers that a JSON schema constrains always parse and fit it, however the model's logits fall."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import numpy as np

from inference.decoding.source import ChooserSource
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.sampling import GrammarKind, SamplingParams, make_grammar
from tests.integration.conftest import Model

SCHEMAS = 200
TOKENS_MAX = 400


def make_schema(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema whose values are short."""
    kinds = ["enum", "integer", "string", "boolean", "const"] + ["array", "object", "any"] * (depth < 3)
    match chance.choice(kinds if depth else ["object", "array", "object"]):
        case "enum":
            choices = ["", "red", 'a "quoted"\nline', "grün", 7, -1.5, None, True, [1, 2], {"k": "v"}]
            return {"enum": chance.sample(choices, chance.randint(1, 6))}
        case "integer":
            low = chance.randint(-1000, 1000)
            return {"type": "integer", "minimum": low, "maximum": low + chance.choice([0, 9, 12_345])}
        case "string":
            low = chance.randint(0, 3)
            return {"type": "string", "minLength": low, "maxLength": low + chance.randint(0, 12)}
        case "boolean":
            return {"type": ["boolean", "null"]}
        case "const":
            return {"const": chance.choice(["x", 0, {"a": [True]}, None])}
        case "array":
            low = chance.randint(0, 2)
            items = make_schema(chance, depth + 1)
            return {"type": "array", "items": items, "minItems": low, "maxItems": low + chance.randint(0, 3)}
        case "any":
            return {"anyOf": [make_schema(chance, depth + 1) for _ in range(chance.randint(1, 3))]}
    names = chance.sample(["a", "name", "é", "with space", 'q"', "z9", "nested"], chance.randint(0, 4))
    return {
        "type": "object",
        "properties": {one: make_schema(chance, depth + 1) for one in names},
        "required": chance.sample(names, chance.randint(0, len(names))),
        "additionalProperties": False,
    }


def test_answers_of_random_schemas_parse_and_fit(model: Model) -> None:
    source = ChooserSource(model.store, model.model_id, model.manifest)
    vocabulary = Vocabulary.load(model.store, model.model_id)
    logits = np.random.default_rng(0).standard_normal((64, model.manifest.architecture.vocab)).astype(np.float32) * 4
    ended = 0
    for seed in range(SCHEMAS):
        chance = random.Random(seed)
        schema = make_schema(chance)
        text = json.dumps(schema).encode()
        heat = chance.choice([0, 700, 2000])
        params = SamplingParams(heat, 0, 1000, seed, grammar=make_grammar(GrammarKind.JSON_SCHEMA, text))
        chooser = source.make(params, (), text)
        verifier = source.make(params, (), text)
        answer = b""
        for position in range(TOKENS_MAX):
            row = logits[chance.randrange(len(logits))]
            drawn = chooser.choose(row, position)
            if position < 20:
                assert verifier.is_consistent(row, position, drawn.token, 0.0)
                verifier.advance(drawn.token)
            answer += vocabulary.get_bytes(drawn.token)
            if drawn.is_end:
                jsonschema.validate(json.loads(answer), schema)
                ended += 1
                break
    assert ended >= SCHEMAS * 0.9, ended
