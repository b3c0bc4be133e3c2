"""The public RPC process: JSON-RPC over HTTP POST and WebSocket on one port. Knows no chain, only the node's socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from node.local_api.wire.errors import LIMIT_EXCEEDED, ApiError
from node.web.rpc.jsonrpc import BODY_BYTES_MAX, Call, answer_text, make_refusal
from node.web.rpc.limits import Caller, Heads, RateLimiter, dispatch_limited
from node.web.rpc.link import NodeGone, NodeLink
from node.web.rpc.request_events import RequestEvents
from node.web.rpc.session import SocketSession

logger = logging.getLogger("myelin.rpc")

CONNECTIONS_MAX = 1_024
SHUTDOWN_S = 1


class RpcServer:
    """The endpoints: POST /, GET /health and the WebSocket."""

    def __init__(self, socket: Path, calls_per_s: int) -> None:
        self._heads = Heads()
        self._link = NodeLink(socket, self._heads.publish)
        self._limiter = RateLimiter(calls_per_s)
        self._request_events = RequestEvents(self._link)

    def make_app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", self.post, methods=["POST"]),
            Route("/health", self.health, methods=["GET"]),
            WebSocketRoute("/", self.websocket),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(self._stay_connected())
        try:
            yield
        finally:
            task.cancel()

    async def _stay_connected(self) -> None:
        """Keep the link to the node, and end this process when the node is gone; the node starts another."""
        try:
            await self._link.run()
        except NodeGone as error:
            logger.warning("stopping: %s", error)
            os.kill(os.getpid(), signal.SIGTERM)

    async def health(self, _request: Request) -> Response:
        """The node's health; status 503 when the node is unwell or does not answer."""
        try:
            found = await self._link.call("system_health", [])
        except ApiError as error:
            return _json({"isHealthy": False, "problem": str(error)}, 503)
        return _json(found, 200 if found["isHealthy"] else 503)

    async def post(self, request: Request) -> Response:
        """Answer a request or a batch."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                error = ApiError(LIMIT_EXCEEDED, f"a request has at most {BODY_BYTES_MAX} bytes")
                return Response(make_refusal(error), 413, media_type="application/json")
        caller = Caller.read(request)

        async def dispatch(calls: Sequence[Call]) -> Sequence[Any]:
            return await dispatch_limited(calls, self._limiter, caller, self._link.call_many)

        answer = await answer_text(bytes(body), dispatch)
        if answer is None:
            return Response(status_code=204)
        return Response(answer, media_type="application/json")

    async def websocket(self, socket: WebSocket) -> None:
        """Serve a WebSocket: requests as on HTTP, and subscriptions."""
        await socket.accept()
        await SocketSession(socket, self._link, self._limiter, self._heads, self._request_events).run()


def _json(body: Any, status: int) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json")


def run_rpc(socket: Path, host: str, port: int, calls_per_s: int) -> None:
    """Serve until SIGTERM, or until the node has been gone for 15 s."""
    app = RpcServer(socket, calls_per_s).make_app()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        ws_max_size=BODY_BYTES_MAX,
        access_log=False,
        lifespan="on",
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    uvicorn.Server(config).run()
