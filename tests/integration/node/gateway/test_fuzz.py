"""Every route of the OpenAPI document with generated and mutated bodies: typed errors of 4xx, never 500."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.gateway.openapi import make_document
from tests.unit.node.gateway.fake_inference import NAME
from tests.unit.node.gateway.running import RunningGateway, make_gateway, run_in_thread

DOCUMENT = make_document()
POSTS = [path for path, methods in DOCUMENT["paths"].items() if "requestBody" in methods.get("post", {})]
TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": NAME,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "x"},
        ],
        "max_tokens": 4,
        "n": 2,
        "seed": 1,
        "stop": ["a"],
        "logit_bias": {"5": 1},
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 0.5,
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "stream_options": {"include_usage": True},
    },
    "/v1/completions": {"model": NAME, "prompt": ["a", "b"], "max_tokens": 3, "logprobs": 2, "echo": True, "n": 1},
    "/v1/responses": {
        "model": NAME,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "max_output_tokens": 4,
        "text": {"format": {"type": "json_object"}},
    },
    "/v1/messages": {
        "model": NAME,
        "max_tokens": 4,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x"}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "stop_sequences": ["q"],
    },
    "/v1/messages/count_tokens": {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]},
}
SPOILS: list[Any] = [
    None, True, -1, 0, 1 << 70, 1.5, -1e300, "", "x", "\u0000", "\ud800", "🙂" * 50, [], [[]], [None], {}, {"": None},
    {"type": "text"}, {"$ref": "#"}, {"type": "string", "pattern": "(a+)+$"}, ["<|im_end|>"], "-0", [1, "a"],
]  # fmt: skip
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_in_thread(make_gateway(tmp_path_factory.mktemp("fuzz"))) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.key}, timeout=30) as made:
        yield made


def assert_answered(response: httpx.Response, sent: object) -> None:
    """An answer, or an error in its API's shape."""
    if response.status_code == 200:
        return
    assert 400 <= response.status_code < 500, (response.status_code, response.text, sent)
    error = response.json()["error"]
    assert isinstance(error["type"], str)
    assert error["message"], sent


def list_places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from list_places(one, (*place, key))


def spoil(value: Any, place: tuple[Any, ...], spoilt: Any) -> Any:
    if not place:
        return spoilt
    made = copy.deepcopy(value)
    at = made
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = spoilt
    return made


def test_every_post_has_a_valid_example(client: httpx.Client) -> None:
    assert set(VALID) == set(POSTS)
    for path, body in VALID.items():
        found = client.post(path, json=body)
        assert found.status_code == 200, found.text


@pytest.mark.parametrize("path", POSTS)
def test_every_place_spoilt(client: httpx.Client, path: str) -> None:
    drawn = random.Random(11)
    for place in list_places(VALID[path]):
        for spoilt in drawn.sample(SPOILS, 8):
            body = spoil(VALID[path], place, spoilt)
            assert_answered(client.post(path, content=json.dumps(body)), body)


@pytest.mark.parametrize("path", POSTS)
def test_fields_of_the_schema_with_any_json(client: httpx.Client, path: str) -> None:
    named = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    fields = sorted(DOCUMENT["components"]["schemas"][named.rpartition("/")[2]]["properties"])

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(st.dictionaries(st.sampled_from(fields), JSON_VALUES, max_size=4))
    def probe(changes: dict[str, Any]) -> None:
        body = {**VALID[path], **changes}
        assert_answered(client.post(path, content=json.dumps(body)), body)

    probe()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"NaN",
        b'{"model": NaN}',
        b"1" * 10_000,
    ],
)
def test_bodies_that_are_no_request(client: httpx.Client, content: bytes) -> None:
    for path in POSTS:
        found = client.post(path, content=content)
        assert found.status_code == 400, found.text
        assert_answered(found, content[:20])


def test_every_get_with_odd_names(client: httpx.Client) -> None:
    for path, methods in DOCUMENT["paths"].items():
        if "get" in methods:
            for name in ("x", "%00", "a" * 2_000, "..%2f..", "%F0%9F%99%82", "0x" + "00" * 32):
                url = path.replace("{model}", name).replace("{request}", name)
                assert_answered(client.get(url), url)
        assert_answered(client.request("DELETE", path.replace("{", "").replace("}", "")), path)
