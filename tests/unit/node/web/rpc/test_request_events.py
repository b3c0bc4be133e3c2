"""Events about requests: all of a block, in order, read from the node once however many ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node.local_api.wire.errors import NODE_UNREACHABLE, ApiError
from node.web.rpc.limits import BACKLOG_MAX
from node.web.rpc.request_events import RequestEvents


class Link:
    """A node with one block of events, which may be away."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.is_away = False

    async def call(self, method: str, params: list[Any]) -> Any:
        """The receipts."""
        assert method == "chain_getReceipts"
        self.asked.append(params[0])
        await asyncio.sleep(0)
        if self.is_away:
            raise ApiError(NODE_UNREACHABLE, "away")
        receipts = [{"events": [{"type": "Transferred"}, {"type": "RequestSettled", "request": "0x02"}]}]
        around = {"initialize": [{"type": "ChallengeDrawn", "request": "0x01"}], "finalize": [{"type": "FeesBurned"}]}
        return {"receipts": receipts, "events": around}


def test_a_block_is_read_once_for_everybody() -> None:
    async def run() -> None:
        link = Link()
        events: Any = RequestEvents(link)  # type: ignore[arg-type]  # as much of a link as is used
        answers = await asyncio.gather(*(events.read(7) for _ in range(50)))
        assert link.asked == [7]
        assert {tuple(one["type"] for one in found) for found in answers} == {("ChallengeDrawn", "RequestSettled")}
        for height in range(8, 8 + 2 * BACKLOG_MAX):
            await events.read(height)
        assert len(events._reading) == BACKLOG_MAX  # noqa: SLF001

    asyncio.run(run())


def test_a_failure_is_everybodys_and_not_for_ever() -> None:
    async def run() -> None:
        link = Link()
        events = RequestEvents(link)  # type: ignore[arg-type]  # as much of a link as is used
        link.is_away = True
        with pytest.raises(ApiError):
            await events.read(7)
        link.is_away = False
        assert len(await events.read(7)) == 2

    asyncio.run(run())
