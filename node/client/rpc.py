"""A JSON-RPC client for the command line, workers and verifiers (trio)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio

from node.client.rpc_errors import RpcError, RpcUnreachable
from node.local_api.wire.errors import LIMIT_EXCEEDED, NODE_UNREACHABLE

TIMEOUT_S = 30.0
WAIT_MS_MAX = 30_000
"""How long one call waits for its turn in total."""


class RpcClient:
    """Calls one node over kept-alive HTTP."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http
        self._ids = itertools.count(1)

    async def call(self, method: str, *params: Any) -> Any:
        """The result of one call. A call refused for the caller's rate is repeated when the node's rate allows it.

        Raises RpcUnreachable, RpcError.
        """
        waited_ms = 0
        while True:
            try:
                return await self._call(method, *params)
            except RpcError as error:
                wait_ms = _read_wait_ms(error)
                waited_ms += wait_ms
                if not wait_ms or waited_ms > WAIT_MS_MAX:
                    raise
            await trio.sleep(wait_ms / 1_000)

    async def _call(self, method: str, *params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            response = await self._http.post(self.url, json=request)
            body = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            detail = str(error) or type(error).__name__
            raise RpcUnreachable(f"no node answers at {self.url} ({detail}): is it running? (--rpc URL)") from error
        match body:
            case {"result": result}:
                return result
            case {"error": {"code": code, "message": str(message)}} if code == NODE_UNREACHABLE:
                raise RpcUnreachable(f"{self.url}: {message}")
            case {"error": {"code": int(code), "message": str(message), **rest}}:
                raise RpcError(code, message, rest.get("data"))
        raise RpcUnreachable(f"what answers at {self.url} is no Myelin node (status {response.status_code})")


def _read_wait_ms(error: RpcError) -> int:
    """Seconds until a call refused for the caller's rate may be repeated; 0 when waiting does not help."""
    match error.data:
        case {"wait_ms": int(wait_ms)} if error.code == LIMIT_EXCEEDED:
            return max(1, wait_ms)
    return 0


@asynccontextmanager
async def open_rpc(url: str) -> AsyncIterator[RpcClient]:
    """A client for the block."""
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        yield RpcClient(url, http)
