"""A client that costs little itself: one HTTP request over a plain socket, and when each piece of its answer came."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import trio

READ_BYTES = 1 << 16
_DATA = b"data: "
_DONE = b"data: [DONE]"


class StreamFailed(Exception):
    """The answer was an error, or ended too early. The text is what came."""


@dataclass(slots=True)
class Streamed:
    """One answer. Times are seconds since the request was sent; `pieces` are the chunks with text."""

    started_s: float
    times_s: list[float] = field(default_factory=list)
    text: str = ""
    tokens: int = 0
    cost_nmyl: int = 0

    @property
    def first_s(self) -> float:
        """The time to the first piece of text."""
        return self.times_s[0]


async def stream_chat(port: int, body: dict[str, Any]) -> Streamed:
    """POST to /v1/chat/completions and read the stream to its end. Raises StreamFailed, OSError."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    payload = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(payload)}\r\nconnection: close\r\n\r\n".encode() + payload
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        answer = Streamed(trio.current_time())
        await stream.send_all(request)
        await _read(stream, answer)
        return answer


async def _read(stream: trio.SocketStream, answer: Streamed) -> None:
    """Lines end where an event does; the chunk sizes between them are no `data:` lines and are passed over."""
    waiting, is_ok, is_done = b"", False, False
    while data := await stream.receive_some(READ_BYTES):
        now_s = trio.current_time() - answer.started_s
        waiting += data
        if not is_ok:
            if b"\r\n\r\n" not in waiting:
                continue
            if b" 200 " not in waiting.split(b"\r\n", 1)[0]:
                raise StreamFailed(waiting.decode(errors="replace")[:500])
            is_ok = True
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            at = line.find(_DATA)
            if at < 0:
                continue
            if _DONE in line:
                is_done = True
                continue
            _take(json.loads(line[at + len(_DATA) :]), now_s, answer)
    if not is_done:
        raise StreamFailed(f"the stream ended after {len(answer.times_s)} pieces, without [DONE]")


def _take(chunk: dict[str, Any], now_s: float, answer: Streamed) -> None:
    if "error" in chunk:
        raise StreamFailed(json.dumps(chunk["error"]))
    for choice in chunk["choices"]:
        text = choice["delta"].get("content")
        if text:
            answer.times_s.append(now_s)
            answer.text += text
    if chunk.get("usage"):
        answer.tokens = chunk["usage"]["completion_tokens"]
    for one in (chunk.get("myelin") or {}).get("requests", ()):
        answer.cost_nmyl = one.get("cost_nmyl", 0)
