"""The public RPC process: JSON-RPC over HTTP POST and WebSocket on one port. Knows no chain, only the node's socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from node.api.errors import INVALID_PARAMS, LIMIT_EXCEEDED, ApiError
from node.rpc.jsonrpc import BODY_BYTES_MAX, Call, Params, answer_text
from node.rpc.link import NodeGone, NodeLink

logger = logging.getLogger("myelin.rpc")

BURST_S = 2
"""A client that was silent may make the calls of so many seconds at once."""
CLIENTS_REMEMBERED_MAX = 10_000
SUBSCRIPTIONS_PER_SOCKET_MAX = 64
BACKLOG_MAX = 64
HEAD_METHODS = {"chain_subscribeNewHeads": "chain_newHead", "chain_subscribeFinalizedHeads": "chain_finalizedHead"}
UNSUBSCRIBE_METHODS = ("chain_unsubscribeNewHeads", "chain_unsubscribeFinalizedHeads", "author_unwatchExtrinsic")
TRY_AGAIN_LATER = 1013
"""WebSocket close code (IANA registry)."""
CONNECTIONS_MAX = 1_024
SHUTDOWN_S = 1
WATCH_METHOD = "author_submitAndWatchExtrinsic"
LOCAL_METHODS = frozenset({*HEAD_METHODS, *UNSUBSCRIBE_METHODS, WATCH_METHOD})


Feed = Callable[[str, str], Coroutine[Any, Any, None]]
"""(subscription, argument) -> sends until the subscription has nothing more to say."""


class RateLimiter:
    """A token bucket per client address."""

    def __init__(self, calls_per_s: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = float(calls_per_s)
        self._clock_s = clock_s
        self._buckets: dict[str, tuple[float, float]] = {}

    def spend(self, client: str) -> None:
        """Count one call. Raises ApiError when the client has none left."""
        now_s = self._clock_s()
        most = BURST_S * self._per_s
        left, seen_s = self._buckets.pop(client, (most, now_s))
        left = min(most, left + (now_s - seen_s) * self._per_s)
        if len(self._buckets) >= CLIENTS_REMEMBERED_MAX:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[client] = (max(0.0, left - 1.0), now_s)
        if left < 1.0:
            raise ApiError(LIMIT_EXCEEDED, f"more than {self._per_s:.0f} calls a second: slow down")


class Heads:
    """Hands every finalized header to the WebSockets that wait for it; None tells one that it fell behind."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any] | None]] = set()

    def publish(self, head: dict[str, Any]) -> None:
        """One header to everybody; who is 64 behind is cut off."""
        for queue in list(self._queues):
            if queue.full():
                self._queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(head)

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[dict[str, Any] | None]]:
        """A queue of headers from now on."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(BACKLOG_MAX)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)


class RpcServer:
    """The endpoints."""

    def __init__(self, socket: Path, calls_per_s: int) -> None:
        self._heads = Heads()
        self._link = NodeLink(socket, self._heads.publish)
        self._limiter = RateLimiter(calls_per_s)

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
        """Without a node there is nothing to serve: end the process, the node starts another."""
        try:
            await self._link.run()
        except NodeGone as error:
            logger.warning("stopping: %s", error)
            os.kill(os.getpid(), signal.SIGTERM)

    async def health(self, _request: Request) -> Response:
        """The node's health; 503 when it is not well or does not answer."""
        try:
            found = await self._link.call("system_health", [])
        except ApiError as error:
            return _json({"isHealthy": False, "problem": str(error)}, 503)
        return _json(found, 200 if found["isHealthy"] else 503)

    async def post(self, request: Request) -> Response:
        """One request or batch."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                return _json({"error": f"a request has at most {BODY_BYTES_MAX} bytes"}, 413)
        client = request.client.host if request.client else ""

        async def dispatch(calls: Sequence[Call]) -> Sequence[Any]:
            return await dispatch_limited(calls, self._limiter, client, self._link.call_many)

        answer = await answer_text(bytes(body), dispatch)
        if answer is None:
            return Response(status_code=204)
        return Response(answer, media_type="application/json")

    async def websocket(self, socket: WebSocket) -> None:
        """Requests as on HTTP, and subscriptions."""
        await socket.accept()
        await _Socket(socket, self._link, self._limiter, self._heads).run()


class _Socket:
    """One WebSocket and its subscriptions."""

    def __init__(self, socket: WebSocket, link: NodeLink, limiter: RateLimiter, heads: Heads) -> None:
        self._socket = socket
        self._link = link
        self._limiter = limiter
        self._heads = heads
        self._client = socket.client.host if socket.client else ""
        self._ids = itertools.count(1)
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                text = message.get("bytes") or (message.get("text") or "").encode()
                answer = await answer_text(text, self._dispatch)
                if answer is not None:
                    await self._send(answer.decode())
        except (WebSocketDisconnect, RuntimeError):
            return  # the client went away in the middle of an answer
        finally:
            for task in self._subscriptions.values():
                task.cancel()

    async def _dispatch(self, calls: Sequence[Call]) -> Sequence[Any]:
        return await dispatch_limited(calls, self._limiter, self._client, self._call_many)

    async def _call_many(self, calls: Sequence[Call]) -> list[Any]:
        """Subscriptions are answered here one by one, everything between them by the node in one frame."""
        answers: list[Any] = []
        for is_local, run in itertools.groupby(calls, key=lambda call: call[0] in LOCAL_METHODS):
            if not is_local:
                answers += await self._link.call_many(list(run))
                continue
            for method, params in run:
                try:
                    answers.append(await self._call_local(method, params))
                except ApiError as error:
                    answers.append(error)
        return answers

    async def _call_local(self, method: str, params: Params) -> Any:
        if method in HEAD_METHODS:
            return self._start(self._send_heads, HEAD_METHODS[method])
        if method == WATCH_METHOD:
            extrinsic = await self._link.call("author_submitExtrinsic", params)
            return self._start(self._watch, extrinsic)
        return self._stop(params)

    def _start(self, feed: Feed, argument: str) -> str:
        if len(self._subscriptions) >= SUBSCRIPTIONS_PER_SOCKET_MAX:
            raise ApiError(LIMIT_EXCEEDED, f"a connection has at most {SUBSCRIPTIONS_PER_SOCKET_MAX} subscriptions")
        name = str(next(self._ids))
        task = self._subscriptions[name] = asyncio.create_task(self._feed(feed, name, argument))
        task.add_done_callback(lambda _: self._subscriptions.pop(name, None))
        return name

    async def _feed(self, feed: Feed, name: str, argument: str) -> None:
        try:
            await feed(name, argument)
        except (WebSocketDisconnect, RuntimeError):
            return  # the client went away
        except ApiError as error:
            logger.warning("subscription ended: %s", error)
            await self._close(str(error))

    async def _close(self, reason: str) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(TRY_AGAIN_LATER, reason)

    def _stop(self, params: Params) -> bool:
        if not isinstance(params, list) or len(params) != 1 or not isinstance(params[0], str):
            raise ApiError(INVALID_PARAMS, "name the subscription to end")
        task = self._subscriptions.pop(params[0], None)
        if task is not None:
            task.cancel()
        return task is not None

    async def _send_heads(self, name: str, method: str) -> None:
        with self._heads.subscribe() as queue:
            while (head := await queue.get()) is not None:
                await self._notify(method, name, head)
        await self._close("too slow: connect again and look up what was missed")

    async def _watch(self, name: str, extrinsic: str) -> None:
        """ready, then finalized with the block's hash."""
        with self._heads.subscribe() as queue:
            await self._notify("author_extrinsicUpdate", name, "ready")
            status = await self._link.call("author_extrinsicStatus", [extrinsic])
            if status is not None and status["status"] == "finalized":
                block = await self._link.call("chain_getBlockHash", [status["height"]])
                return await self._notify("author_extrinsicUpdate", name, {"finalized": block})
            while (head := await queue.get()) is not None:
                if extrinsic in head["extrinsics"]:
                    return await self._notify("author_extrinsicUpdate", name, {"finalized": head["hash"]})
        return await self._close("too slow: connect again and look up what was missed")

    async def _notify(self, method: str, name: str, result: Any) -> None:
        params = {"subscription": name, "result": result}
        await self._send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))

    async def _send(self, text: str) -> None:
        async with self._sending:
            await self._socket.send_text(text)


async def dispatch_limited(
    calls: Sequence[Call], limiter: RateLimiter, client: str, call_many: Callable[[list[Call]], Awaitable[list[Any]]]
) -> list[Any]:
    """Make the calls the client has the right to; the rest are refused, each for itself."""
    refusals: list[ApiError | None] = []
    for _ in calls:
        try:
            limiter.spend(client)
            refusals.append(None)
        except ApiError as error:
            refusals.append(error)
    allowed = [call for call, refusal in zip(calls, refusals, strict=True) if refusal is None]
    answers = iter(await call_many(allowed) if allowed else [])
    return [next(answers) if refusal is None else refusal for refusal in refusals]


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
