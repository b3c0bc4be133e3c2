"""Many at once: streams, and connections that do nothing beside one that streams."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest

from tests.integration.gateway.network import GatewayNet, read_memory_bytes

pytestmark = pytest.mark.slow

STREAMS = 32
IDLE = 1_000
IDLE_BYTES_MAX = 64 * 1024
"""What an idle connection may cost the gateway."""


def test_32_streams_at_once(net: GatewayNet) -> None:
    async def ask_all() -> list[tuple[str, int]]:
        async with openai.AsyncOpenAI(api_key=net.key, base_url=f"{net.url}/v1", max_retries=0) as client:

            async def ask(number: int) -> tuple[str, int]:
                text, tokens = "", 0
                question: Any = [{"role": "user", "content": f"What is {number} + {number}?"}]
                stream = await client.chat.completions.create(
                    model=net.model,
                    messages=question,
                    max_tokens=16,
                    temperature=0,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                    tokens = chunk.usage.completion_tokens if chunk.usage else tokens
                return text, tokens

            return list(await asyncio.gather(*(ask(number) for number in range(STREAMS))))

    answers = asyncio.run(ask_all())
    assert len(answers) == STREAMS
    assert all(text and tokens for text, tokens in answers)


def test_a_thousand_idle_connections_beside_a_stream(net: GatewayNet) -> None:
    place = httpx.URL(net.url)
    body = {
        "model": net.model,
        "messages": [{"role": "user", "content": "Count."}],
        "stream": True,
        "max_tokens": 4_000,
        "logit_bias": {"0": -100, "2": -100},
    }
    with (
        ExitStack() as stack,
        httpx.stream("POST", f"{net.url}/v1/chat/completions", json=body, headers=net.headers, timeout=60) as answer,
    ):
        lines = (one for one in answer.iter_lines() if '"content":"' in one and '"content":""' not in one)
        for _ in range(20):
            next(lines)
        before = read_memory_bytes(net.gateway_pid)
        for number in range(IDLE):
            made = stack.enter_context(socket.create_connection((place.host, place.port or 80), timeout=20))
            if number % 4 == 0:
                made.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        assert httpx.get(f"{net.url}/v1/models", headers=net.headers, timeout=20).status_code == 200
        for _ in range(100):
            next(lines)
        grown = read_memory_bytes(net.gateway_pid) - before
        print(f"{IDLE} idle connections: {grown / 2**20:.1f} MiB of {before / 2**20:.0f} MiB")
        assert grown < IDLE * IDLE_BYTES_MAX
