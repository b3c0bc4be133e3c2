"""The unmodified `openai` package against the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import openai
import pytest
from pydantic import BaseModel

from inference.routing import NoPathError
from node.gateway.accounts.keys import KeyLimits
from tests.unit.node.gateway.fake_inference import NAME, say
from tests.unit.node.gateway.running import RunningGateway, poll_until

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>'


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=gateway.key, base_url=f"{gateway.url}/v1", max_retries=0) as made:
        yield made


def test_a_chat_completion(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.script = say("Hi there")
    raw = client.chat.completions.with_raw_response.create(model=NAME, messages=HELLO)
    done = raw.parse()
    assert done.choices[0].message.content == "Hi there"
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert (done.usage.completion_tokens, done.usage.total_tokens) == (9, done.usage.prompt_tokens + 9)
    assert raw.headers["x-myelin-request"] == gateway.inference.answers[0].request.hex()
    assert raw.headers["x-myelin-path"] == "a1a1a1a1:0-3,b2b2b2b2:3-6"
    assert int(raw.headers["x-myelin-cost"]) == gateway.inference.answers[0].cost_nmyl
    assert raw.headers["x-request-id"].startswith("req_")
    assert done.myelin["requests"][0]["cost_nmyl"] == gateway.inference.answers[0].cost_nmyl


def test_a_stream_with_usage(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.script = say("größer 日本 🙂")
    stream = client.chat.completions.create(
        model=NAME, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "größer 日本 🙂"
    assert chunks[-1].usage is not None
    assert chunks[-1].myelin["requests"][0]["state"] == "pending"


def test_a_stream_without_usage_has_a_choice_in_every_chunk(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=NAME, messages=HELLO, stream=True))
    assert all(len(one.choices) == 1 for one in chunks)
    assert [one.choices[0].finish_reason for one in chunks][-1] == "stop"


def test_stop_strings_are_trimmed_even_across_tokens(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.script = say("one two END three")
    done = client.chat.completions.create(model=NAME, messages=HELLO, stop=["END", "nowhere"])
    assert done.choices[0].message.content == "one two "
    assert done.choices[0].finish_reason == "stop"
    assert gateway.inference.asked[0].sampling.stop == (b"END", b"nowhere")
    chunks = client.chat.completions.create(model=NAME, messages=HELLO, stop="END", stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == "one two "


def test_choices_use_seeds_in_a_row(gateway: RunningGateway, client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model=NAME, messages=HELLO, n=3, seed=41, max_tokens=30)
    assert [one.sampling.seed for one in gateway.inference.asked] == [41, 42, 43]
    assert [one.index for one in done.choices] == [0, 1, 2]
    assert len({one.message.content for one in done.choices}) == 3
    again = client.chat.completions.create(model=NAME, messages=HELLO, n=3, seed=41, max_tokens=30)
    assert [one.message.content for one in again.choices] == [one.message.content for one in done.choices]
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(model=NAME, messages=HELLO, n=3, seed=41, max_tokens=30, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == [one.message.content for one in done.choices]


def test_log_probabilities(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.script = say("ab")
    done = client.chat.completions.create(model=NAME, messages=HELLO, logprobs=True, top_logprobs=2)
    logprobs = done.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [one.token for one in logprobs.content] == ["a", "b", ""]
    assert logprobs.content[0].logprob == pytest.approx(-0.1)
    assert [one.logprob for one in logprobs.content[0].top_logprobs] == pytest.approx([-0.2, -0.3])
    chunks = list(client.chat.completions.create(model=NAME, messages=HELLO, logprobs=True, stream=True))
    shown = [
        token.token for one in chunks if one.choices[0].logprobs for token in one.choices[0].logprobs.content or []
    ]
    assert shown == ["a", "b", ""]


def test_sampling_reaches_the_order(gateway: RunningGateway, client: openai.OpenAI) -> None:
    client.chat.completions.create(
        model=NAME,
        messages=HELLO,
        temperature=0.25,
        top_p=0.9,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={"7": 5, "3": -100},
        seed=-1,
        max_completion_tokens=5,
        extra_body={"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1},
    )
    ask = gateway.inference.asked[0]
    rules = ask.sampling
    assert ask.tokens_max == 5
    assert (rules.temperature_milli, rules.top_p_milli, rules.top_k, rules.min_p_milli) == (250, 900, 40, 50)
    assert (rules.presence_penalty_milli, rules.frequency_penalty_milli) == (500, -500)
    assert rules.repetition_penalty_milli == 1100
    assert [(one.token, one.bias_milli) for one in rules.logit_bias] == [(3, -100_000), (7, 5_000)]
    assert rules.seed == (1 << 64) - 1


@pytest.mark.parametrize("is_streamed", [False, True])
def test_tool_calls(gateway: RunningGateway, client: openai.OpenAI, is_streamed: bool) -> None:
    gateway.inference.script = say(f"Let me see. {CALL}")
    if is_streamed:
        with client.chat.completions.stream(model=NAME, messages=HELLO, tools=[WEATHER]) as stream:
            done = stream.get_final_completion()
    else:
        done = client.chat.completions.create(model=NAME, messages=HELLO, tools=[WEATHER])
    message = done.choices[0].message
    assert done.choices[0].finish_reason == "tool_calls"
    assert message.content == "Let me see. "
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Bern"})
    turns = [
        *HELLO,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "12 C"},
    ]
    gateway.inference.script = say("Twelve degrees.")
    last = client.chat.completions.create(model=NAME, messages=turns, tools=[WEATHER])  # type: ignore[arg-type]
    assert last.choices[0].message.content == "Twelve degrees."
    assert last.choices[0].message.tool_calls is None


def test_a_forced_tool_has_a_grammar(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.script = say(CALL)
    choice = {"type": "function", "function": {"name": "get_weather"}}
    done = client.chat.completions.create(model=NAME, messages=HELLO, tools=[WEATHER], tool_choice=choice)  # type: ignore[arg-type]
    assert done.choices[0].finish_reason == "tool_calls"
    assert done.choices[0].message.content is None
    ask = gateway.inference.asked[0]
    assert ask.sampling.grammar is not None
    assert b"get_weather" in ask.grammar
    wrong = {"type": "function", "function": {"name": "nothing"}}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=NAME, messages=HELLO, tools=[WEATHER], tool_choice=wrong)  # type: ignore[arg-type]


class Person(BaseModel):
    name: str
    age: int


def test_a_schema(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.script = say('{"name":"Ada","age":36}')
    done = client.chat.completions.parse(model=NAME, messages=HELLO, response_format=Person)
    assert done.choices[0].message.parsed == Person(name="Ada", age=36)
    assert b'"age"' in gateway.inference.asked[0].grammar
    client.chat.completions.create(model=NAME, messages=HELLO, response_format={"type": "json_object"})
    assert gateway.inference.asked[1].grammar == b'{"type":"object"}'


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "http://example.com/schema"},
        {"type": "string", "pattern": "a" * 300},
        {"type": "array", "minItems": 10**6},
    ],
)
def test_a_schema_that_is_not_taken(gateway: RunningGateway, client: openai.OpenAI, schema: dict[str, object]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=NAME, messages=HELLO, response_format=form)  # type: ignore[arg-type]
    assert caught.value.code == "invalid_json_schema"
    assert gateway.inference.asked == []


def test_completions_echo_and_score_the_prompt(gateway: RunningGateway, client: openai.OpenAI) -> None:
    done = client.completions.create(model=NAME, prompt=["Hi", "Yo"], max_tokens=0, echo=True, logprobs=1)
    assert [one.text for one in done.choices] == ["Hi", "Yo"]
    logprobs = done.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["H", "i"]
    assert logprobs.token_logprobs == [None, pytest.approx(-0.1)]
    assert logprobs.text_offset == [0, 1]
    assert all(one.tokens_max == 1 and one.sampling.prompt_logprobs for one in gateway.inference.asked)
    assert done.usage is not None
    assert done.usage.completion_tokens == 0


def test_completions(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.script = say("abc")
    ids = client.completions.create(model=NAME, prompt=[40, 41], logprobs=0, max_tokens=2)
    assert ids.choices[0].text == "ab"
    assert ids.choices[0].finish_reason == "length"
    assert gateway.inference.asked[0].prompt == (40, 41)
    chunks = client.completions.create(model=NAME, prompt="Hi", stream=True, n=2)
    assert "".join(one.choices[0].text for one in chunks if one.choices[0].index == 1) == "abc"


def test_responses(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.script = say("Hello you")
    done = client.responses.create(model=NAME, input="Hi", instructions="Be kind")
    assert done.output_text == "Hello you"
    assert done.status == "completed"
    assert done.usage is not None
    assert done.usage.output_tokens == 10
    with client.responses.stream(model=NAME, input=[{"role": "user", "content": "Hi"}]) as stream:
        kinds = [one.type for one in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert final.output_text == "Hello you"
    cut = client.responses.create(model=NAME, input="Hi", max_output_tokens=3)
    assert (cut.status, cut.output_text) == ("incomplete", "Hel")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=NAME, input="Hi", previous_response_id="resp_1")


def test_models(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).context_length == 4096
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_errors_are_those_that_the_client_expects(gateway: RunningGateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        client.with_options(api_key="sk-myelin-wrong").models.list()
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as no_model:
        client.chat.completions.create(model="other", messages=HELLO)
    assert no_model.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as too_long:
        client.chat.completions.create(model=NAME, messages=HELLO, max_tokens=5_000)
    assert too_long.value.code == "context_length_exceeded"
    part = {"type": "image_url", "image_url": {"url": "data:"}}
    with pytest.raises(openai.BadRequestError) as image:
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": [part]}])  # type: ignore[list-item]
    assert "text" in image.value.message
    with pytest.raises(openai.APIStatusError) as too_large:
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "x" * (1 << 20)}])
    assert too_large.value.status_code == 413
    assert gateway.inference.asked == []


def test_limits_of_a_key(gateway: RunningGateway, client: openai.OpenAI) -> None:
    slow = client.with_options(api_key=gateway.make_key(KeyLimits(requests_a_minute=1)))
    slow.chat.completions.create(model=NAME, messages=HELLO)
    with pytest.raises(openai.RateLimitError) as fast:
        slow.chat.completions.create(model=NAME, messages=HELLO)
    assert fast.value.code == "rate_limit_exceeded"
    assert 0 < int(fast.value.response.headers["retry-after"]) <= 60
    poor = client.with_options(api_key=gateway.make_key(KeyLimits(budget=1_000)))
    with pytest.raises(openai.RateLimitError) as spent:
        poor.chat.completions.create(model=NAME, messages=HELLO, max_tokens=100)
    assert spent.value.code == "insufficient_quota"
    assert spent.value.body["myelin"]["cost_nmyl"] == 0
    bound = client.with_options(api_key=gateway.make_key(KeyLimits(models=("other",))))
    assert [one.id for one in bound.models.list()] == []
    assert gateway.revoke("test") == 4
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_lost_worker(gateway: RunningGateway, client: openai.OpenAI) -> None:
    gateway.inference.lose_at = 3
    with pytest.raises(openai.APIStatusError) as whole:
        client.chat.completions.create(model=NAME, messages=HELLO)
    assert whole.value.status_code == 502
    cost = gateway.inference.answers[0].cost_nmyl
    assert whole.value.body["myelin"]["cost_nmyl"] == cost > 0
    with pytest.raises(openai.APIError, match="the worker is gone") as streamed:
        list(client.chat.completions.create(model=NAME, messages=HELLO, stream=True))
    assert streamed.value.body["myelin"]["requests"][0]["cost_nmyl"] == cost


def test_retries(gateway: RunningGateway, client: openai.OpenAI) -> None:
    """What a client that asks again by itself needs: a status that it knows, and how long to wait."""
    gateway.inference.refuse = NoPathError(((0, 3),))
    with pytest.raises(openai.InternalServerError) as gone:
        client.chat.completions.create(model=NAME, messages=HELLO)
    assert (gone.value.status_code, gone.value.code) == (503, "no_path")
    assert gone.value.response.headers["retry-after"] == "5"


def test_asynchronous_and_cancelled(gateway: RunningGateway) -> None:
    gateway.inference.script = say("abcdefghij" * 10)
    assert asyncio.run(_ask_and_leave(gateway)) == ("abcdefghij" * 10, "abcde")
    left = gateway.inference.answers[1]
    poll_until(lambda: gateway.read_request(left.request).state == "cancelled")
    assert gateway.read_request(left.request).cost == left.price(5)


async def _ask_and_leave(gateway: RunningGateway) -> tuple[str, str]:
    """A whole stream, and one that is left when it comes to rest."""
    async with openai.AsyncOpenAI(api_key=gateway.key, base_url=f"{gateway.url}/v1", max_retries=0) as client:
        stream = await client.chat.completions.create(model=NAME, messages=HELLO, stream=True)
        text = ""
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        gateway.inference.hold_at = 5
        left = await client.chat.completions.create(model=NAME, messages=HELLO, stream=True)
        received = ""
        async for chunk in left:
            received += chunk.choices[0].delta.content or ""
            if received == "abcde":
                break
        await left.close()
        return text, received
