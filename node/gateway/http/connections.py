"""Accepts connections and serves an ASGI application on them by hypercorn's HTTP/1.1, within bounds.

Not `hypercorn.trio.serve`: that waits without end for a client that takes nothing, and accepts without end.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from node.gateway.http import limits
from node.gateway.http.plain import PlainServer

AsgiApp = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """How long a connection may be idle or take nothing (seconds), and how many there may be."""

    idle_timeout_s: float = limits.IDLE_TIMEOUT_S
    stall_timeout_s: float = limits.STALL_TIMEOUT_S
    connections_max: int = limits.CONNECTIONS_MAX


class BoundedStream:
    """A socket's stream whose sends end: whoever takes nothing for `stall_timeout_s` is cut off.

    hypercorn shields its sends from cancellation, so that the bound has to lie inside.
    """

    def __init__(self, stream: trio.SocketStream, stall_timeout_s: float) -> None:
        self._stream = stream
        self._stall_timeout_s = stall_timeout_s
        self.socket = stream.socket

    async def send_all(self, data: bytes) -> None:
        """Raises trio.BrokenResourceError when the client takes nothing."""
        if not data:
            return
        with trio.move_on_after(self._stall_timeout_s) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the client takes nothing")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes from the client; none at the end."""
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        """Nothing more comes from here."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()


async def serve_http(
    app: AsgiApp,
    host: str,
    port: int,
    bounds: ConnectionBounds,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; starts with the port. Answers under way then have STOPPING_S seconds to end."""
    config = _make_config(bounds)
    context: Any = WorkerContext(None)
    wrapped = wrap_app(app, 0, "asgi")
    free = trio.CapacityLimiter(bounds.connections_max)

    async def handle(stream: trio.SocketStream) -> None:
        try:
            free.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            await trio.aclose_forcefully(stream)
            return
        try:
            bounded: Any = BoundedStream(stream, bounds.stall_timeout_s)
            await PlainServer(wrapped, config, context, {}, bounded)
        except* OSError:  # the connection broke where hypercorn does not look for it
            pass
        finally:
            free.release_on_behalf_of(stream)

    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=1024)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error  # whoever reads it sees which address
    closing = trio.Event()
    async with trio.open_nursery() as nursery:
        handlers = await nursery.start(_hold_handlers, closing)
        try:
            task_status.started(listeners[0].socket.getsockname()[1])
            await trio.serve_listeners(handle, listeners, handler_nursery=handlers)
        finally:
            await context.terminated.set()
            handlers.cancel_scope.deadline = trio.current_time() + limits.STOPPING_S
            closing.set()


async def _hold_handlers(closing: trio.Event, task_status: Any) -> None:
    """A nursery that outlives the listeners: whoever is being answered is answered to the end."""
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        task_status.started(nursery)
        await closing.wait()


def _make_config(bounds: ConnectionBounds) -> Config:
    config = Config()
    config.accesslog = None
    config.h11_max_incomplete_size = limits.HEADER_BYTES_MAX
    config.keep_alive_timeout = bounds.idle_timeout_s if math.isfinite(bounds.idle_timeout_s) else 1e9
    config.keep_alive_max_requests = limits.REQUESTS_PER_CONNECTION_MAX
    config.include_server_header = False
    return config
