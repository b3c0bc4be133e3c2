"""Answers under many decoding rules at once, judged by the real verifier before they end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema
import pytest

from tests.integration.gateway.network import GatewayNet

pytestmark = pytest.mark.slow

SCHEMA: Any = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "tags": {"type": "array", "items": {"enum": ["old", "new", "blue"]}, "minItems": 2, "maxItems": 5},
        "size": {"type": "integer", "minimum": -50, "maximum": 50},
    },
    "required": ["name", "tags", "size"],
    "additionalProperties": False,
}
RULES: Any = {
    "temperature": 1,
    "top_p": 0.95,
    "top_k": 200,
    "min_p": 0.01,
    "presence_penalty": 0.6,
    "frequency_penalty": 0.4,
    "repetition_penalty": 1.15,
    "logit_bias": {"260": -5, "28": 2.5, "2": -1},
    "stop": ["\n\n", "END"],
}
WISHES: list[Any] = [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}, "seed": 11},
    {"seed": 12, "logprobs": True, "top_logprobs": 5},
    {"seed": 13, "stream": True},
]


def test_answers_under_many_rules_are_verified(net: GatewayNet) -> None:
    """The verifier computes every stage anew and draws each token itself: another token would be a slash."""

    def ask(wish: dict[str, Any]) -> httpx.Response:
        body = {
            "model": net.model,
            "messages": [{"role": "user", "content": "Describe a thing on your desk."}],
            "max_tokens": 120,
            **RULES,
            **wish,
        }
        headers = {**net.headers, "x-myelin-wait": "verified"}
        return httpx.post(f"{net.url}/v1/chat/completions", json=body, headers=headers, timeout=120)

    with ThreadPoolExecutor(len(WISHES)) as threads:
        answers = list(threads.map(ask, WISHES))
    for answer in answers:
        assert answer.status_code == 200, answer.text
    last = json.loads(answers[2].text.strip().split("\n\n")[-2].removeprefix("data: "))
    for told in (answers[0].json()["myelin"], answers[1].json()["myelin"], last["myelin"]):
        assert [one["state"] for one in told["requests"]] == ["verified"]
    jsonschema.validate(json.loads(answers[0].json()["choices"][0]["message"]["content"]), SCHEMA)
    for answer in answers:
        known = net.look_up(answer.headers["x-myelin-request"])
        assert (known["state"], known["final"], known["returned_nmyl"]) == ("verified", True, 0)
        assert len(known["stages"]) == 2
        for stage in known["stages"]:
            assert stage["drawn"]
            assert stage["distance_ppb"] <= stage["threshold_ppb"] / 10
