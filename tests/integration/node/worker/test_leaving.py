"""A stage that leaves in mid-answer: it finishes within its grace, or tells the whole path; new orders are refused."""

from __future__ import annotations

import pytest
import trio

from inference.serving.client import RequestFailed, SettlementSent
from node.worker.ends import HOLD_S
from node.worker.leaving import drain
from node.worker.presence import Presence
from proto_specs.types.wire import FailureCode
from tests.integration.conftest import Model
from tests.integration.node.worker.network import open_network
from tests.integration.node.worker.test_failures import PROMPT, RANGES, asking


async def count_none() -> int:
    await trio.lowlevel.checkpoint()
    return 0


@pytest.mark.parametrize("stage", [0, 1, 2])
async def test_who_leaves_at_once_tells_the_client(model: Model, stage: int, caplog: pytest.LogCaptureFixture) -> None:
    async with open_network(model, RANGES) as network:
        order = network.make_order(PROMPT, 400, 0)
        async with asking(network, order) as asked:
            await asked.wait_tokens(3)
            await drain(network.stages[stage].server.requests, Presence(), count_none, "SIGTERM", 0)
            end = await asked.wait_end(6)
        assert isinstance(end, RequestFailed)
        assert end.code is FailureCode.LEAVING
        assert end.lost == stage  # whichever stage told the client first
        await network.wait_idle(HOLD_S + 10)  # who heard of the client first that it goes on elsewhere holds
    (line,) = [one.getMessage() for one in caplog.records if "dropped" in one.getMessage()]
    computed = int(line.split(" of at most ")[0].rsplit(" ", 1)[1])
    assert len(PROMPT) <= computed <= len(PROMPT) + 400


async def test_a_grace_lets_the_answer_finish_and_nothing_new_begins(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        leaver = network.stages[1].server
        async with asking(network, network.make_order(PROMPT, 40, 0)) as asked, trio.open_nursery() as nursery:
            await asked.wait_tokens(3)
            nursery.start_soon(drain, leaver.requests, leaver.presence, count_none, "SIGTERM", 60)
            async with asking(network, network.make_order(PROMPT, 4, 1)) as late:
                refused = await late.wait_end(10)
            assert isinstance(await asked.wait_end(60), SettlementSent)
        assert len(asked.tokens) >= 3
        assert isinstance(refused, RequestFailed)
        assert refused.code is FailureCode.LEAVING
        assert late.tokens == []
