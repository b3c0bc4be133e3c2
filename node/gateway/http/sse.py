"""A stream of server-sent events to one client: written one after the other, with a comment when it is silent."""

from __future__ import annotations

import json
from typing import Any

import trio
from starlette.types import Send

from node.gateway.http.limits import PING_S

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


def encode_event(value: Any, event: str | None = None) -> bytes:
    """An event with a JSON value, named `event` if it has a name."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    head = "" if event is None else f"event: {event}\n"
    return f"{head}data: {data}\n\n".encode()


class EventWriter:
    """Writes a response's start and events. Sends one at a time: a client that takes nothing holds its writers up."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = trio.Lock()
        self._written_s = trio.current_time()
        self.is_started = False

    async def start(self, headers: dict[str, str]) -> None:
        """Status 200 and headers."""
        named = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers}
        named["x-accel-buffering"] = "no"
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        self.is_started = True
        self._written_s = trio.current_time()

    async def write(self, data: bytes) -> None:
        """Send events."""
        async with self._lock:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self._written_s = trio.current_time()

    async def finish(self) -> None:
        """End the response."""
        async with self._lock:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def keep_alive(self, every_s: float = PING_S) -> None:
        """Write a comment whenever the stream was silent for `every_s`. Runs until cancelled."""
        while True:
            due_s = self._written_s + every_s
            if trio.current_time() < due_s:
                await trio.sleep_until(due_s)
            elif self.is_started:
                await self.write(PING)
            else:
                await trio.sleep(every_s)
