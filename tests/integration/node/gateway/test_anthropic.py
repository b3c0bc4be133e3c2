"""The unmodified `anthropic` package against the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import pytest

from node.gateway.accounts.keys import KeyLimits
from tests.unit.node.gateway.fake_inference import NAME, say
from tests.unit.node.gateway.running import RunningGateway, poll_until

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a place.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>'


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key=gateway.key, base_url=gateway.url, max_retries=0) as made:
        yield made


def test_a_message(gateway: RunningGateway, client: anthropic.Anthropic) -> None:
    gateway.inference.script = say("Hi there")
    done = client.messages.create(model=NAME, max_tokens=50, messages=HELLO, system="Be kind", extra_body={"top_k": 5})
    assert [one.text for one in done.content] == ["Hi there"]
    assert (done.stop_reason, done.usage.output_tokens) == ("end_turn", 9)
    assert gateway.inference.asked[0].sampling.top_k == 5
    counted = client.messages.count_tokens(model=NAME, messages=HELLO, system="Be kind")
    assert counted.input_tokens == done.usage.input_tokens == len(gateway.inference.asked[0].prompt)


def test_a_stream(gateway: RunningGateway, client: anthropic.Anthropic) -> None:
    gateway.inference.script = say("one two END three")
    with client.messages.stream(model=NAME, max_tokens=50, messages=HELLO, stop_sequences=["END"]) as stream:
        assert "".join(stream.text_stream) == "one two "
        done = stream.get_final_message()
    assert (done.stop_reason, done.stop_sequence) == ("stop_sequence", "END")
    assert done.usage.output_tokens == 11
    cut = client.messages.create(model=NAME, max_tokens=3, messages=HELLO)
    assert (cut.stop_reason, cut.content[0].text) == ("max_tokens", "one")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_tools(gateway: RunningGateway, client: anthropic.Anthropic, is_streamed: bool) -> None:
    gateway.inference.script = say(CALL)
    wanted = {"model": NAME, "max_tokens": 200, "messages": HELLO, "tools": [WEATHER], "tool_choice": {"type": "any"}}
    if is_streamed:
        with client.messages.stream(**wanted) as stream:
            done = stream.get_final_message()
    else:
        done = client.messages.create(**wanted)
    assert done.stop_reason == "tool_use"
    block = done.content[0]
    assert (block.type, block.name, block.input) == ("tool_use", "get_weather", {"city": "Bern"})
    assert b"get_weather" in gateway.inference.asked[0].grammar
    result = {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "12 C"}]}
    turns = [*HELLO, {"role": "assistant", "content": done.content}, {"role": "user", "content": [result]}]
    gateway.inference.script = say("Twelve.")
    last = client.messages.create(model=NAME, max_tokens=50, messages=turns, tools=[WEATHER])
    assert last.content[0].text == "Twelve."


def test_errors_are_those_that_the_client_expects(gateway: RunningGateway, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        client.with_options(api_key="wrong").messages.create(model=NAME, max_tokens=5, messages=HELLO)
    assert unknown.value.body["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="other", max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=NAME, max_tokens=5_000, messages=HELLO)
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with pytest.raises(anthropic.BadRequestError, match="thinking"):
        client.messages.create(model=NAME, max_tokens=2_000, messages=HELLO, thinking=thinking)
    slow = client.with_options(api_key=gateway.make_key(KeyLimits(tokens_a_minute=60)))
    slow.messages.create(model=NAME, max_tokens=50, messages=HELLO)
    with pytest.raises(anthropic.RateLimitError):
        slow.messages.create(model=NAME, max_tokens=50, messages=HELLO)
    gateway.inference.lose_at = 3
    with (
        pytest.raises(anthropic.APIStatusError),
        client.messages.stream(model=NAME, max_tokens=50, messages=HELLO) as stream,
    ):
        stream.get_final_message()


def test_asynchronous_and_cancelled(gateway: RunningGateway) -> None:
    gateway.inference.script = say("abcdefghij")
    gateway.inference.hold_at = 5

    async def ask_and_leave() -> None:
        async with (
            anthropic.AsyncAnthropic(api_key=gateway.key, base_url=gateway.url, max_retries=0) as client,
            client.messages.stream(model=NAME, max_tokens=50, messages=HELLO) as stream,
        ):
            text = ""
            async for one in stream.text_stream:
                text += one
                if text == "abcde":
                    break

    asyncio.run(ask_and_leave())
    left = gateway.inference.answers[0]
    poll_until(lambda: gateway.read_request(left.request).state == "cancelled")
    assert gateway.read_request(left.request).cost == left.price(5)
