"""Gemma 3 270M, another architecture and vocabulary, on a network of one worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from inference.model.fetch import GEMMA3, cache_dir, fetch_sample
from inference.model.importing import import_model
from tests.integration.gateway.network import GatewayNet, open_gateway_net

pytestmark = pytest.mark.slow

SCHEMA: Any = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayNet]:
    path = fetch_sample(GEMMA3, cache_dir(), lambda _done, _total: None)
    root = cache_dir() / "models"
    manifest = import_model(path, root, lambda _done, _total: None, name=GEMMA3.model)
    ranges = ((0, manifest.architecture.layers),)
    with open_gateway_net(tmp_path_factory.mktemp("gemma"), root, manifest, ranges) as running:
        yield running


def test_a_chat_and_an_object(gemma: GatewayNet) -> None:
    with openai.OpenAI(api_key=gemma.key, base_url=f"{gemma.url}/v1", max_retries=0, timeout=120) as client:
        assert [one.id for one in client.models.list()] == [GEMMA3.model]
        question: Any = [{"role": "user", "content": "The capital of France is"}]
        raw = client.chat.completions.with_raw_response.create(
            model=gemma.model, messages=question, max_tokens=16, temperature=0
        )
        assert "France" in (raw.parse().choices[0].message.content or "")
        made = client.chat.completions.create(
            model=gemma.model,
            messages=question,
            max_tokens=100,
            seed=4,
            response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}},
        )
        jsonschema.validate(json.loads(made.choices[0].message.content or ""), SCHEMA)
    assert gemma.wait_for(raw.headers["x-myelin-request"], lambda one: one["final"])["state"] == "verified"
