"""The load: pre-built HTTP requests over keep-alive connections, each connection in order. Knows no chain."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class LoadFailed(Exception):
    """The node under load gave a wrong answer."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The times of the first request and the last answer (`time.monotonic`), and the number of accepted calls."""

    started_s: float
    ended_s: float
    accepted: int


def make_request(port: int, body: bytes) -> bytes:
    """An HTTP/1.1 POST of JSON."""
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def make_batches(port: int, calls: Sequence[dict[str, Any]], batch: int) -> list[bytes]:
    """JSON-RPC calls as requests of `batch` calls each; a single call is sent without a list."""
    requests = []
    for at in range(0, len(calls), batch):
        part = calls[at : at + batch]
        requests.append(make_request(port, json.dumps(part if batch > 1 else part[0]).encode()))
    return requests


def make_feeds(
    port: int, method: str, signed: Sequence[Sequence[str]], connections: int, batch: int
) -> list[list[bytes]]:
    """A feed for each connection, of `method` with each account's transactions. An account's transactions stay on one
    connection, in order; other accounts' are mixed in between.
    """
    feeds = []
    for connection in range(connections):
        mine = signed[connection::connections]
        ordered = [account[nonce] for nonce in range(len(mine[0])) for account in mine]
        calls = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": [one]} for number, one in enumerate(ordered)
        ]
        feeds.append(make_batches(port, calls, batch))
    return feeds


def count_accepted(answer: Any) -> int:
    """The number of calls in an answer, single or batch. Raises LoadFailed for a refused call."""
    answers = answer if isinstance(answer, list) else [answer]
    for one in answers:
        if "error" in one:
            raise LoadFailed(str(one["error"]))
    return len(answers)


async def send_load(port: int, feeds: Sequence[Sequence[bytes]], count_accepted: Callable[[Any], int]) -> LoadResult:
    """Send each feed over its own connection, one request after another. Raises LoadFailed."""
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in feeds]
    started_s = time.monotonic()

    async def feed_one(place: int) -> int:
        reader, writer = connections[place]
        accepted = 0
        for request in feeds[place]:
            writer.write(request)
            accepted += count_accepted(json.loads(await _read_response(reader)))
        return accepted

    try:
        accepted = await asyncio.gather(*(feed_one(place) for place in range(len(feeds))))
    finally:
        for _, writer in connections:
            writer.close()
    return LoadResult(started_s, time.monotonic(), sum(accepted))


async def _read_response(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    if " 200 " not in lines[0]:
        raise LoadFailed(f"HTTP status {lines[0]}")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name == "content-length":
            return await reader.readexactly(int(value))
        if name == "transfer-encoding":
            return await _read_chunks(reader)
    raise LoadFailed("a response without a length")


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
