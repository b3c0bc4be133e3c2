"""Workers that die or hang, clients that leave: who is told what and when, what is still paid, and all memory freed."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, TokenReceived
from node.client.link import FrameLink
from node.client.transport import AnswerSigned, Progress, StageAccepted, StageUnreachable, connect_stages, open_request
from node.p2p.host import open_host
from node.worker.ends import HOLD_S
from node.worker.refusal import OrderRefused
from proto_specs.types.calls import Settle
from proto_specs.types.request import SignedOrder, compute_positions
from proto_specs.types.wire import FailureCode, OpenRequest
from tests.integration.conftest import Model
from tests.integration.node.worker.network import SESSION_KEY, Network, open_network, replace_session

RANGES = [(0, 10), (10, 20), (20, 30)]
PROMPT = tuple(range(100, 140))
DETECT_S_MAX = 6.0


class Asking:
    """A request under way: what came of it so far."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.end: SettlementSent | RequestFailed | None = None
        self.changed = trio.Event()

    async def wait_tokens(self, count: int) -> None:
        with trio.fail_after(30):
            while len(self.tokens) < count:
                assert self.end is None, self.end
                await self.changed.wait()

    async def wait_end(self, timeout_s: float) -> SettlementSent | RequestFailed:
        with trio.fail_after(timeout_s):
            while self.end is None:
                await self.changed.wait()
        return self.end


@asynccontextmanager
async def asking(network: Network, order: SignedOrder) -> AsyncIterator[Asking]:
    found = Asking()
    machine = ClientRequest(order, PROMPT, SESSION_KEY)

    async def read(progress: trio.MemoryReceiveChannel[Progress]) -> None:
        async for event in progress:
            if isinstance(event, TokenReceived):
                found.tokens.append(event.token)
            elif isinstance(event, SettlementSent | RequestFailed):
                found.end = event
            found.changed.set()
            found.changed = trio.Event()

    links = await connect_stages(network.client, network.make_peers())
    async with open_request(machine, network.make_peers(), links) as progress, trio.open_nursery() as nursery:
        nursery.start_soon(read, progress)
        yield found
        nursery.cancel_scope.cancel()


def get_settlement(network: Network) -> Settle | None:
    found = list(network.stages[-1].archive.settlements.values())
    assert len(found) <= 1
    return found[0] if found else None


def assert_paid_for(settle: Settle | None, tokens: int) -> None:
    """What is settled covers whole windows, and all but the last three of what the client got."""
    assert settle is not None
    vouched = settle.voucher.voucher.tokens
    assert tokens - 3 * 32 <= vouched <= tokens
    positions = settle.stage_roots[0].roots.positions
    assert positions % 32 == 0
    assert 0 <= positions - compute_positions(len(PROMPT), vouched) < 32
    assert {one.roots.positions for one in settle.stage_roots} == {positions}


@pytest.mark.parametrize("dying", [0, 1, 2])
async def test_a_worker_that_dies_in_mid_generation_is_named_at_once(model: Model, dying: int) -> None:
    async with open_network(model, RANGES) as network:
        async with asking(network, network.make_order(PROMPT, 400, 0)) as request:
            await request.wait_tokens(5)
            network.stages[dying].scope.cancel()
            end = await request.wait_end(DETECT_S_MAX)
        assert isinstance(end, RequestFailed)
        assert end.code == FailureCode.NEIGHBOUR_LOST
        assert end.stage == dying or f"stage {dying} (worker" in end.message
        alive = [one for at, one in enumerate(network.stages) if at != dying]
        with trio.fail_after(HOLD_S + 10):
            while not all(one.is_idle for one in alive):
                await trio.sleep(0.02)
        assert get_settlement(network) is None


async def test_a_worker_that_restarts_in_mid_generation_does_not_run_the_order_again(model: Model) -> None:
    """Its neighbours remember the order in memory; it has only its disk."""
    async with open_network(model, RANGES) as network:
        order = network.make_order(PROMPT, 400, 0)
        async with asking(network, order) as request:
            await request.wait_tokens(40)
            await network.restart(1)
            await request.wait_end(DETECT_S_MAX)
        await network.wait_idle()
        restarted = network.stages[1].server
        assert not len(restarted.outstanding)
        client = FrameLink(None, "client")  # type: ignore[arg-type]
        with pytest.raises(OrderRefused, match="run here before"):
            await restarted._open(OpenRequest(order), client)  # noqa: SLF001
        again = OpenRequest(network.make_order(PROMPT, 40, 1))
        assert (await restarted._open(again, client)).stage == 1  # noqa: SLF001


@pytest.mark.slow
async def test_a_worker_that_hangs_is_told_by_its_heartbeat(model: Model) -> None:
    async with open_network(model, RANGES, proxied={1}) as network:
        async with asking(network, network.make_order(PROMPT, 400, 0)) as request:
            await request.wait_tokens(5)
            proxy = network.stages[1].proxy
            assert proxy is not None
            proxy.freeze()
            end = await request.wait_end(DETECT_S_MAX)
        assert isinstance(end, RequestFailed)
        assert end.code == FailureCode.NEIGHBOUR_LOST
        assert end.stage == 1 or "stage 1 (worker" in end.message
        await network.wait_idle()


async def test_a_client_that_cancels_pays_what_it_vouched_for(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        async with asking(network, network.make_order(PROMPT, 400, 0)) as request:
            await request.wait_tokens(70)
        await network.wait_idle()
        assert_paid_for(get_settlement(network), len(request.tokens))
        assert all(len(one.archive.records) == 1 for one in network.stages)


async def test_a_client_whose_task_is_cancelled_tells_every_stage(model: Model) -> None:
    """Not only one that leaves the block: else the stages would wait half a minute for its signatures."""
    async with open_network(model, RANGES) as network:
        with trio.CancelScope() as scope:
            async with asking(network, network.make_order(PROMPT, 400, 0)) as request:
                await request.wait_tokens(70)
                scope.cancel()
                await trio.sleep_forever()
        await network.wait_idle()
        assert_paid_for(get_settlement(network), len(request.tokens))


async def test_a_client_that_cancels_at_once_owes_nothing(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        async with asking(network, network.make_order(PROMPT, 400, 0)) as request:
            await request.wait_tokens(1)
        await network.wait_idle()
        assert get_settlement(network) is None


async def test_a_client_that_dies_pays_what_it_vouched_for(model: Model) -> None:
    async with open_network(model, RANGES) as network, trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        enough = trio.Event()

        async def ask_and_die() -> None:
            with scope:
                async with open_host(b"y" * 32, []) as client:
                    dying = dataclasses.replace(network, client=client)
                    async with asking(dying, network.make_order(PROMPT, 400, 0)) as request:
                        await request.wait_tokens(70)
                        enough.set()
                        await client.close()  # before anything of the request is told
                        await trio.sleep_forever()

        nursery.start_soon(ask_and_die)
        with trio.fail_after(30):
            await enough.wait()
        await network.wait_idle()
        assert get_settlement(network) is not None
        scope.cancel()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_open": False}, "takes no more requests"),
        pytest.param({"requests_left": 0}, "takes no more requests", marks=pytest.mark.slow),
        pytest.param({"escrow": 10}, "went to other requests", marks=pytest.mark.slow),
    ],
)
async def test_a_session_that_ends_under_a_request_stops_it_in_time(
    model: Model, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], reason: str
) -> None:
    monkeypatch.setattr("node.worker.server.SESSION_POLL_S", 0.1)
    async with open_network(model, RANGES) as network:
        async with asking(network, network.make_order(PROMPT, 400, 0)) as request:
            await request.wait_tokens(40)
            replace_session(network, **change)
            end = await request.wait_end(3)
        assert isinstance(end, RequestFailed)
        assert (end.stage, end.code) == (2, FailureCode.NO_ESCROW)
        assert reason in end.message
        await network.wait_idle()
        assert_paid_for(get_settlement(network), len(request.tokens))


async def test_a_stage_that_cannot_be_reached_is_named_and_nothing_is_left_behind(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        network.stages[2].scope.cancel()
        with trio.fail_after(10), pytest.raises(StageUnreachable, match="stage 2") as refused:
            await network.ask(network.make_order(PROMPT, 8, 0), PROMPT)
        assert refused.value.stage == 2
        with trio.fail_after(5):
            while not all(one.is_idle for one in network.stages[:2]):
                await trio.sleep(0.02)


async def test_a_neighbour_that_cannot_be_reached_is_a_refusal(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        stage = network.stages[1]
        moved = dataclasses.replace(stage.entry, addresses=("/ip4/127.0.0.1/tcp/1/p2p/" + stage.host.peer_id,))
        network.chain.workers[stage.entry.worker] = moved
        _, end = await network.ask(network.make_order(PROMPT, 8, 0), PROMPT)
        assert isinstance(end, RequestFailed)
        assert (end.stage, end.code) == (0, FailureCode.NEIGHBOUR_LOST)
        await network.wait_idle()
        assert all(len(one.server.outstanding) <= 1 for one in network.stages)


@pytest.mark.slow
async def test_refused_for_want_of_memory_is_served_when_there_is_some(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.engine.engine.PROMISED_SHARE_MAX", 1)  # nothing is promised that is not there
    async with open_network(model, RANGES, kv_positions=460) as network:
        async with asking(network, network.make_order(PROMPT, 400, 0)) as request:
            await request.wait_tokens(1)
            _, refused = await network.ask(network.make_order(PROMPT, 60, 1), PROMPT)
            assert isinstance(refused, RequestFailed)
            assert refused.code == FailureCode.NO_CAPACITY
        await network.wait_idle()
        _, served = await network.ask(network.make_order(PROMPT, 4, 2), PROMPT)
        assert isinstance(served, SettlementSent)


async def test_the_same_order_is_served_once(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        order = network.make_order(PROMPT, 4, 0)
        _, first = await network.ask(order, PROMPT)
        assert isinstance(first, SettlementSent)
        _, second = await network.ask(order, PROMPT)
        assert isinstance(second, RequestFailed)
        assert second.code == FailureCode.BAD_ORDER
        assert len(network.stages[2].account.sent) == 1
        await network.wait_idle()


async def test_what_the_asker_raises_comes_out_as_it_is(model: Model) -> None:
    class Broken(Exception):
        pass

    async with open_network(model, RANGES) as network:
        machine = ClientRequest(network.make_order(PROMPT, 40, 0), PROMPT, SESSION_KEY)
        try:
            links = await connect_stages(network.client, network.make_peers())
            async with open_request(machine, network.make_peers(), links) as progress:
                while not isinstance(await progress.receive(), TokenReceived):
                    pass
                raise Broken
        except Broken:  # and no group around it
            pass
        await network.wait_idle()


@pytest.mark.slow
async def test_an_asker_that_reads_slowly_loses_nothing(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        machine = ClientRequest(network.make_order(PROMPT, 40, 0), PROMPT, SESSION_KEY)
        links = await connect_stages(network.client, network.make_peers())
        async with open_request(machine, network.make_peers(), links) as progress:
            await network.wait_idle(30)  # the whole answer, before any of it is read
            events = [one async for one in progress]
        tokens = [one for one in events if isinstance(one, TokenReceived)]
        assert [one.index for one in tokens] == list(range(len(tokens)))
        assert [type(one) for one in events if one not in tokens] == [
            *[StageAccepted] * 3,
            AnswerSigned,
            SettlementSent,
        ]
        assert isinstance(events[-1], SettlementSent)
