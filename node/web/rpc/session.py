"""A WebSocket of the public RPC: its calls, answered as on HTTP, and its subscriptions. Knows no chain."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from node.local_api.wire.access import get_cost
from node.local_api.wire.errors import INVALID_PARAMS, LIMIT_EXCEEDED, STATE_UNAVAILABLE, ApiError
from node.local_api.wire.frames import Params
from node.local_api.wire.subscriptions import SUBSCRIPTION_METHODS
from node.web.rpc.jsonrpc import Call, answer_text
from node.web.rpc.limits import Caller, Heads, RateLimiter, dispatch_limited
from node.web.rpc.link import NodeLink
from node.web.rpc.request_events import RequestEvents

logger = logging.getLogger("myelin.rpc")

SUBSCRIPTIONS_PER_SOCKET_MAX = 64
KEYS_PER_SUBSCRIPTION_MAX = 64
HEAD_METHODS = {"chain_subscribeNewHeads": "chain_newHead", "chain_subscribeFinalizedHeads": "chain_finalizedHead"}
WATCH_METHOD = "author_submitAndWatchExtrinsic"
STORAGE_METHOD = "state_subscribeStorage"
REQUESTS_METHOD = "inference_subscribeRequests"
TRY_AGAIN_LATER = 1013
"""WebSocket close code (IANA registry)."""
CLOSE_REASON_MAX = 100
"""Characters of a close reason; a close frame carries at most 123 bytes (RFC 6455, 5.5)."""
TOO_SLOW = "too slow: connect again and look up what was missed"
_KEY = re.compile(r"0x(?:[0-9a-fA-F]{2}){0,256}")

Feed = Callable[[str], Coroutine[Any, Any, None]]
"""(subscription) -> sends until the subscription ends."""


class SocketSession:
    """A WebSocket and its subscriptions."""

    def __init__(
        self, socket: WebSocket, link: NodeLink, limiter: RateLimiter, heads: Heads, events: RequestEvents
    ) -> None:
        self._socket = socket
        self._link = link
        self._limiter = limiter
        self._heads = heads
        self._request_events = events
        self._caller = Caller.read(socket)
        self._ids = itertools.count(1)
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Answer until the client goes away."""
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
            return  # the client went away during an answer
        finally:
            for task in self._subscriptions.values():
                task.cancel()

    async def _dispatch(self, calls: Sequence[Call]) -> Sequence[Any]:
        return await dispatch_limited(calls, self._limiter, self._caller, self._call_many)

    async def _call_many(self, calls: Sequence[Call]) -> list[Any]:
        """Each subscription call is answered here; the calls between two of them go to the node in a single frame."""
        answers: list[Any] = []
        for is_local, run in itertools.groupby(calls, key=lambda call: call[0] in SUBSCRIPTION_METHODS):
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
            _require_nothing(method, params)
            return self._start(lambda name: self._send_heads(name, HEAD_METHODS[method]))
        if method == WATCH_METHOD:
            extrinsic = await self._link.call("author_submitExtrinsic", params)
            return self._start(lambda name: self._watch(name, extrinsic))
        if method == STORAGE_METHOD:
            keys = _parse_keys(params)
            return self._start(lambda name: self._send_storage(name, keys))
        if method == REQUESTS_METHOD:
            _require_nothing(method, params)
            return self._start(self._send_requests)
        return self._stop(params)

    def _start(self, feed: Feed) -> str:
        if len(self._subscriptions) >= SUBSCRIPTIONS_PER_SOCKET_MAX:
            raise ApiError(LIMIT_EXCEEDED, f"a connection has at most {SUBSCRIPTIONS_PER_SOCKET_MAX} subscriptions")
        name = str(next(self._ids))
        task = self._subscriptions[name] = asyncio.create_task(self._feed(feed, name))
        task.add_done_callback(lambda _: self._subscriptions.pop(name, None))
        return name

    async def _feed(self, feed: Feed, name: str) -> None:
        try:
            await feed(name)
        except (WebSocketDisconnect, RuntimeError):
            return  # the client went away
        except ApiError as error:
            logger.warning("subscription ended: %s", error)
            await self._close(str(error))

    async def _close(self, reason: str) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(TRY_AGAIN_LATER, reason[:CLOSE_REASON_MAX])

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
        await self._close(TOO_SLOW)

    async def _watch(self, name: str, extrinsic: str) -> None:
        """Notify `ready`, then `finalized` with the block's hash."""
        with self._heads.subscribe() as queue:
            await self._notify("author_extrinsicUpdate", name, "ready")
            status = await self._link.call("author_extrinsicStatus", [extrinsic])
            if status is not None and status["status"] == "finalized":
                block = await self._link.call("chain_getBlockHash", [status["height"]])
                return await self._notify("author_extrinsicUpdate", name, {"finalized": block})
            while (head := await queue.get()) is not None:
                if extrinsic in head["extrinsics"]:
                    return await self._notify("author_extrinsicUpdate", name, {"finalized": head["hash"]})
        return await self._close(TOO_SLOW)

    async def _send_storage(self, name: str, keys: list[str]) -> None:
        """Send the values now, and after each block those that changed. Each time every key costs the caller a call."""
        known: list[Any] | None = None
        with self._heads.subscribe() as queue:
            head: dict[str, Any] | None = await self._link.call("chain_getHeader", [])
            seen = -1
            while head is not None:
                if head["height"] > seen:
                    seen = head["height"]
                    known = await self._send_changes(name, keys, known, head)
                head = await queue.get()
        await self._close(TOO_SLOW)

    async def _send_changes(
        self, name: str, keys: list[str], known: list[Any] | None, head: dict[str, Any]
    ) -> list[Any] | None:
        """Send a block's changes; returns the values, or `known` if its state is already pruned. Raises ApiError."""
        for _ in keys:
            self._limiter.spend(self._caller.address, get_cost("state_getStorage"))
        values = await self._link.call_many([("state_getStorage", [key, head["height"]]) for key in keys])
        for one in values:
            if isinstance(one, ApiError):
                if one.code == STATE_UNAVAILABLE:
                    return known
                raise one
        changes = [
            [key, now] for at, (key, now) in enumerate(zip(keys, values, strict=True)) if not known or known[at] != now
        ]
        if changes:
            result = {"block": head["hash"], "height": head["height"], "changes": changes}
            await self._notify("state_storage", name, result)
        return values

    async def _send_requests(self, name: str) -> None:
        """Send what happened to requests in each block from now on; blocks without such events are left out."""
        with self._heads.subscribe() as queue:
            while (head := await queue.get()) is not None:
                events = await self._request_events.read(head["height"])
                if events:
                    result = {"block": head["hash"], "height": head["height"], "events": events}
                    await self._notify("inference_request", name, result)
        await self._close(TOO_SLOW)

    async def _notify(self, method: str, name: str, result: Any) -> None:
        params = {"subscription": name, "result": result}
        await self._send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))

    async def _send(self, text: str) -> None:
        async with self._sending:
            await self._socket.send_text(text)


def _parse_keys(params: Params) -> list[str]:
    """The state keys of `state_subscribeStorage`. Raises ApiError."""
    keys: Any = params.get("keys") if isinstance(params, dict) and len(params) == 1 else None
    if isinstance(params, list) and len(params) == 1:
        keys = params[0]
    is_list = isinstance(keys, list) and 1 <= len(keys) <= KEYS_PER_SUBSCRIPTION_MAX
    if not is_list or not all(isinstance(one, str) and _KEY.fullmatch(one) for one in keys):
        text = f"keys has to be a list of 1 to {KEYS_PER_SUBSCRIPTION_MAX} state keys as 0x hex"
        raise ApiError(INVALID_PARAMS, text)
    return list(dict.fromkeys(keys))


def _require_nothing(method: str, params: Params) -> None:
    if params:
        raise ApiError(INVALID_PARAMS, f"{method} takes no parameters")
