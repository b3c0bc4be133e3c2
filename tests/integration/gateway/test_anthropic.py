"""The unmodified `anthropic` package against real models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import jsonschema
import pytest

from tests.integration.gateway.network import GatewayNet

pytestmark = pytest.mark.slow

HELLO: Any = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: Any = {"extra_body": {"temperature": 0}}
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(net: GatewayNet) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key=net.key, base_url=net.url, max_retries=0, timeout=120) as made:
        yield made


def test_whole_and_streamed_messages_are_one(net: GatewayNet, client: anthropic.Anthropic) -> None:
    whole = client.messages.create(model=net.model, max_tokens=24, messages=HELLO, **GREEDY)
    (block,) = whole.content
    assert block.type == "text"
    assert "Paris" in block.text
    with client.messages.stream(model=net.model, max_tokens=24, messages=HELLO, **GREEDY) as stream:
        assert "".join(stream.text_stream) == block.text
        done = stream.get_final_message()
    assert (done.stop_reason, done.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    counted = client.messages.count_tokens(model=net.model, messages=HELLO)
    assert counted.input_tokens == whole.usage.input_tokens


def test_a_tool_is_used(net: GatewayNet, client: anthropic.Anthropic) -> None:
    question: Any = [{"role": "user", "content": "What is the weather in Bern?"}]
    done = client.messages.create(
        model=net.model, max_tokens=80, messages=question, tools=[WEATHER], tool_choice={"type": "any"}, **GREEDY
    )
    assert done.stop_reason == "tool_use"
    (block,) = [one for one in done.content if one.type == "tool_use"]
    jsonschema.validate(block.input, WEATHER["input_schema"])
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "rain"}
    turns: Any = [*question, {"role": "assistant", "content": done.content}, {"role": "user", "content": [result]}]
    with client.messages.stream(model=net.model, max_tokens=12, messages=turns, tools=[WEATHER]) as stream:
        assert stream.get_final_message().usage.output_tokens > 0


def test_errors_are_those_that_the_client_knows(net: GatewayNet, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude", max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=net.model, max_tokens=100_000, messages=HELLO, timeout=60)
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="wrong").messages.create(model=net.model, max_tokens=5, messages=HELLO)
