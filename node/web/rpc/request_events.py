"""The events of inference requests in a block, read from the node once for all subscribers (asyncio)."""

from __future__ import annotations

import asyncio
from typing import Any

from node.web.rpc.limits import BACKLOG_MAX
from node.web.rpc.link import NodeLink


class RequestEvents:
    """Events that name a request, by block. Only the newest blocks are kept: older ones are not reported again."""

    def __init__(self, link: NodeLink) -> None:
        self._link = link
        self._reading: dict[int, asyncio.Task[list[Any]]] = {}

    async def read(self, height: int) -> list[Any]:
        """The events of a block in order. Raises ApiError."""
        task = self._reading.get(height)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._reading[height] = asyncio.create_task(self._read(height))
            while len(self._reading) > BACKLOG_MAX:
                del self._reading[min(self._reading)]
        return await asyncio.shield(task)

    async def _read(self, height: int) -> list[Any]:
        found = await self._link.call("chain_getReceipts", [height])
        if found is None:
            return []
        parts = [found["events"]["initialize"], *(one["events"] for one in found["receipts"])]
        return [one for events in (*parts, found["events"]["finalize"]) for one in events if "request" in one]
