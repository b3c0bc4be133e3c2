"""The unmodified `openai` package, blocking and asynchronous, against real models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import numpy as np
import openai
import pytest

from consensus.runtime.inference import queries
from inference.engine.engine import load_session
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.model.tokenizer.tokenizer import Tokenizer
from proto_specs.types.manifest import WireDtype
from proto_specs.types.request import PathStage, compute_stage_price
from tests.integration.conftest import Model
from tests.integration.gateway.conftest import RANGES
from tests.integration.gateway.network import GatewayNet, poll_until, read_cpu_ticks

pytestmark = pytest.mark.slow

HELLO: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
SCHEMA: Any = {
    "type": "object",
    "properties": {"capital": {"type": "string", "maxLength": 20}, "is_big": {"type": "boolean"}},
    "required": ["capital", "is_big"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
NO_END: Any = {"2": -100, "0": -100}
"""Both ends of a text of SmolLM2: an answer without them goes on to its `max_tokens`."""


@pytest.fixture
def client(net: GatewayNet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=net.key, base_url=f"{net.url}/v1", max_retries=0, timeout=120) as made:
        yield made


def test_whole_and_streamed_answers_are_one(net: GatewayNet, client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == [net.model]
    raw = client.chat.completions.with_raw_response.create(
        model=net.model, messages=HELLO, max_tokens=24, temperature=0
    )
    whole = raw.parse()
    text = whole.choices[0].message.content
    assert text is not None
    assert "Paris" in text
    assert int(raw.headers["x-myelin-cost"]) == net.look_up(raw.headers["x-myelin-request"])["cost_nmyl"] > 0
    stream = client.chat.completions.create(
        model=net.model,
        messages=HELLO,
        max_tokens=24,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == text
    assert chunks[-1].usage == whole.usage


def test_a_left_stream_stops_the_workers_and_costs_what_was_delivered(net: GatewayNet, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=net.model, messages=HELLO, max_tokens=6_000, stream=True, logit_bias=NO_END, seed=3
    )
    request = raw.headers["x-myelin-request"]
    stream = raw.parse()
    seen = 0
    for chunk in stream:
        seen += bool(chunk.choices[0].delta.content)
        if seen == 40:
            break
    stream.close()
    told = net.wait_for(request, lambda one: one["progress"] == "cancelled", 10)
    assert 40 <= told["generated_tokens"] < 140, "the pipeline went on"
    settled = net.wait_for(request, lambda one: one["state"] not in ("pending", "lost"))
    assert settled["price_nmyl"] == settled["cost_nmyl"] < settled["price_max_nmyl"] / 10
    on_chain = net.read(queries.read_request, bytes.fromhex(request))
    entries = {one.worker: one for one in net.list_workers()}
    stages = [
        PathStage(one.worker, one.start, one.end, entry.prefill_price, entry.decode_price)
        for one in on_chain.stages
        for entry in [entries[one.worker]]
    ]
    assert on_chain.tokens <= told["generated_tokens"], "whole windows are vouched for, of what was delivered"
    assert on_chain.price == sum(compute_stage_price(one, on_chain.prompt_tokens, on_chain.tokens) for one in stages), (
        "billed for other than what was delivered"
    )
    poll_until(lambda: _is_quiet(net), 20)


def _is_quiet(net: GatewayNet) -> bool:
    """Whether the workers compute nothing: 6,000 tokens would take minutes."""
    pids = [net.get_pid(one.name) for one in net.plan.workers]
    before = sum(map(read_cpu_ticks, pids))
    httpx.get(f"{net.url}/v1/models", headers=net.headers)
    rounds = iter(range(6))
    poll_until(lambda: next(rounds) == 5)
    return sum(map(read_cpu_ticks, pids)) - before < 6


def test_a_required_tool_is_called(net: GatewayNet, client: openai.OpenAI) -> None:
    question: Any = [{"role": "user", "content": "What is the weather in Bern in 3 days?"}]
    done = client.chat.completions.create(
        model=net.model, messages=question, tools=[WEATHER], tool_choice="required", max_tokens=120, temperature=0
    )
    assert done.choices[0].finish_reason == "tool_calls"
    (call,) = done.choices[0].message.tool_calls or []
    assert call.type == "function"
    arguments = json.loads(call.function.arguments)
    jsonschema.validate(arguments, WEATHER["function"]["parameters"])
    talk: Any = [*question, done.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    after = client.chat.completions.create(model=net.model, messages=talk, tools=[WEATHER], max_tokens=8)
    assert after.choices[0].finish_reason in ("stop", "length", "tool_calls")
    names = []
    for chunk in client.chat.completions.create(
        model=net.model, messages=question, tools=[WEATHER], tool_choice="required", max_tokens=120, stream=True, seed=1
    ):
        for part in chunk.choices[0].delta.tool_calls or []:
            assert part.function is not None
            jsonschema.validate(json.loads(part.function.arguments or ""), WEATHER["function"]["parameters"])
            names.append(part.function.name)
    assert names == ["get_weather"]


def test_an_answer_fits_its_schema(net: GatewayNet, client: openai.OpenAI) -> None:
    for seed in range(3):
        done = client.chat.completions.create(
            model=net.model, messages=HELLO, response_format=FORMAT, max_tokens=80, temperature=1.3, seed=seed
        )
        assert done.choices[0].finish_reason == "stop"
        jsonschema.validate(json.loads(done.choices[0].message.content or ""), SCHEMA)


def test_log_probabilities_of_two_choices(net: GatewayNet, client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model=net.model, messages=HELLO, n=2, logprobs=True, top_logprobs=3, max_tokens=6, seed=5
    )
    assert [one.index for one in done.choices] == [0, 1]
    for choice in done.choices:
        assert choice.logprobs is not None
        for token in choice.logprobs.content or []:
            assert len(token.top_logprobs) == 3
            assert token.logprob <= token.top_logprobs[0].logprob <= 0
            assert bytes(token.bytes or []).decode(errors="replace")
    assert done.usage is not None
    assert done.usage.completion_tokens == sum(len(one.logprobs.content or []) for one in done.choices if one.logprobs)


def test_a_scored_prompt_is_what_the_shards_say(net: GatewayNet, client: openai.OpenAI, model: Model) -> None:
    text = "The quick brown fox jumps over the lazy dog, and the capital of France is Paris."
    done = client.completions.create(model=net.model, prompt=text, echo=True, logprobs=2, max_tokens=0)
    scores = done.choices[0].logprobs
    assert scores is not None
    assert done.choices[0].text == text == "".join(scores.tokens or [])
    own = scores.token_logprobs or []
    assert own[0] is None
    tokens = Tokenizer.load(model.store, model.model_id).encode(text)
    assert own[1:] == pytest.approx(_compute_scores(model, tokens), abs=1e-3)


def _compute_scores(model: Model, tokens: list[int]) -> list[float]:
    """Log-probabilities of all tokens but the first, in nats, from the shards that the workers serve."""
    rows: Any = np.array(tokens, np.uint32)
    wire = WireDtype(model.manifest.wire_dtype)
    for start, end in dict.fromkeys(RANGES):
        session = load_session(model.store, model.model_id, start, end)
        output = session.run(
            session.open_kv(len(tokens)), rows, tuple(range(len(tokens))) if session.shard.is_last else ()
        )
        rows = output.hidden
        if rows is not None:
            rows = decode_rows(encode_rows(rows, wire), wire, rows.shape[1])
    assert output.logits is not None
    logits = np.asarray(output.logits, np.float64)[:-1]
    top = logits.max(axis=1, keepdims=True)
    scores = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return [float(row[token]) for row, token in zip(scores, tokens[1:], strict=True)]


def test_errors_are_those_that_the_client_knows(net: GatewayNet, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as too_long:
        client.chat.completions.create(model=net.model, messages=HELLO, max_tokens=100_000)
    assert too_long.value.code == "context_length_exceeded"
    words: Any = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(openai.BadRequestError) as too_much:
        client.chat.completions.create(model=net.model, messages=words)
    assert too_much.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-myelin-no").models.list()


def test_the_asynchronous_client_and_responses(net: GatewayNet) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(api_key=net.key, base_url=f"{net.url}/v1", max_retries=0) as client:

            async def stream() -> str:
                text = ""
                made = await client.chat.completions.create(
                    model=net.model, messages=HELLO, max_tokens=24, temperature=0, stream=True
                )
                async for chunk in made:
                    text += chunk.choices[0].delta.content or ""
                return text

            async def respond() -> str:
                return (
                    await client.responses.create(
                        model=net.model, input="What is the capital of France?", max_output_tokens=24, temperature=0
                    )
                ).output_text

            return list(await asyncio.gather(stream(), stream(), respond()))

    first, second, third = asyncio.run(ask())
    assert first == second == third
    assert "Paris" in first
