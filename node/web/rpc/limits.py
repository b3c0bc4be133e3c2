"""The limits of a caller of the public RPC: calls a second, the operator's methods, and a backlog of headers."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection

from node.local_api.wire.access import READ, UNSAFE_METHODS, compute_cost
from node.local_api.wire.errors import LIMIT_EXCEEDED, NOT_ALLOWED, ApiError
from node.machine.rate import RateLimit
from node.web.rpc.jsonrpc import Call

BURST_S = 2
"""A client that was silent may make this many seconds' calls at once."""
CLIENTS_REMEMBERED_MAX = 10_000
BACKLOG_MAX = 64
FOREIGN_HEADERS = ("origin", "forwarded", "x-forwarded-for")
"""Headers that an operator's own tool never sends. A browser names the page that calls, a proxy names its client."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller: its address, and whether its connection shows it to be the node's operator."""

    address: str
    is_operator: bool

    @classmethod
    def read(cls, connection: HTTPConnection) -> Caller:
        """The caller behind a request or WebSocket."""
        address = connection.client.host if connection.client else ""
        is_direct = not any(one in connection.headers for one in FOREIGN_HEADERS)
        return cls(address, is_direct and _is_loopback(address))


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


class RateLimiter:
    """A token bucket for each client address. Expensive methods take several tokens (node/local_api/wire/access.py)."""

    def __init__(self, calls_per_s: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = float(calls_per_s)
        self._burst = BURST_S * self._per_s
        self._clock_s = clock_s
        self._rate = RateLimit(self._per_s, self._burst, CLIENTS_REMEMBERED_MAX)

    def spend(self, client: str, cost: int = READ) -> None:
        """Take `cost` tokens for a call, at most a full bucket. Raises ApiError when the client has too few, with the
        time after which it has enough; a refused call takes none.
        """
        wait_s = self._rate.take_at_once(client, min(float(cost), self._burst), self._clock_s())
        if wait_s:
            text = f"more than {self._per_s:.0f} calls a second: slow down"
            wait = {"wait_ms": math.ceil(wait_s * 1_000)}
            raise ApiError(LIMIT_EXCEEDED, text if cost == READ else f"{text} (this one counts as {cost})", wait)


class Heads:
    """Hands every finalized header to the WebSockets that wait for it; None tells a WebSocket that it fell behind."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any] | None]] = set()

    def publish(self, head: dict[str, Any]) -> None:
        """Put a header into every queue; a subscriber with BACKLOG_MAX unread headers is cut off."""
        for queue in list(self._queues):
            if queue.full():
                self._queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(head)

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[dict[str, Any] | None]]:
        """A queue of all headers from now on."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(BACKLOG_MAX)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)


async def dispatch_limited(
    calls: Sequence[Call], limiter: RateLimiter, caller: Caller, call_many: Callable[[list[Call]], Awaitable[list[Any]]]
) -> list[Any]:
    """Make the calls that the caller may make and can pay for, in order; each other call gets its refusal."""
    refusals: list[ApiError | None] = []
    for name, params in calls:
        try:
            limiter.spend(caller.address, compute_cost(name, params))
            if name in UNSAFE_METHODS and not caller.is_operator:
                raise ApiError(NOT_ALLOWED, f"{name} is for the node's operator: call it at the loopback address")
            refusals.append(None)
        except ApiError as error:
            refusals.append(error)
    allowed = [call for call, refusal in zip(calls, refusals, strict=True) if refusal is None]
    answers = iter(await call_many(allowed) if allowed else [])
    return [next(answers) if refusal is None else refusal for refusal in refusals]
