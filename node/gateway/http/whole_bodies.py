"""Takes what is left of a request's body before its answer: a client that still writes would never read the answer.

An answer may be known before the body has come (no key, no such path). A server that then closes the connection
resets it under the client's writes, or under its next request on the same connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio

from node.gateway.http.limits import BODY_BYTES_MAX, LEFT_TIMEOUT_S

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_LEFT_BYTES_MAX = 8 * BODY_BYTES_MAX


class WholeBodies:
    """An ASGI application around another one; waits LEFT_TIMEOUT_S at most, then the connection is closed."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_whole = False

        async def receive_noting() -> Message:
            nonlocal is_whole
            message = await receive()
            is_whole = is_whole or message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                left = _LEFT_BYTES_MAX
                with trio.move_on_after(LEFT_TIMEOUT_S):
                    while not is_whole and left > 0:
                        left -= len((await receive_noting()).get("body", b""))
            await send(message)

        await self._app(scope, receive_noting, send_after_body)
