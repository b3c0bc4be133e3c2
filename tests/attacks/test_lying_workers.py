"""Workers lie to a client about why they fail: it asks another one, and never promises one order twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from inference.serving.client import ClientRequest, RequestFailed, TokenReceived
from node.client import transport
from node.client.answer import Generated
from node.client.errors import RequestLost
from node.client.inference import InferenceParts, PaidInference
from node.client.purse import PoolRules
from node.client.routes import Routes
from node.client.session_files import SessionFiles
from node.client.session_pool import open_pool
from node.client.transport import StageAccepted
from node.client.worker_memory import WorkerMemory
from proto_specs.types.wire import Accepted, Failed, FailureCode, FinishReason
from tests.property.inference.serving.harness import SESSION_KEY, make_order
from tests.unit.node.client.banks import FakeBank
from tests.unit.node.client.paid_world import ASK, FakeChain, FakeNetwork, World


class Liars(FakeNetwork):
    """Workers that give `given` tokens, or only sign for the prompt, and then say that the session is unknown."""

    given = 0

    async def _play(self, machine: ClientRequest, peers: Any, sender: Any) -> None:
        sender.send_nowait(StageAccepted(0))
        await trio.sleep(0.01)
        machine._vouched = 0  # noqa: SLF001 - the leaf of the prompt was signed
        for index in range(self.given):
            sender.send_nowait(TokenReceived(index, 7 + index, FinishReason.NONE))
        sender.send_nowait(RequestFailed(0, FailureCode.NO_ESCROW, "the session is not open on chain (yet)"))


@pytest.fixture(name="world")
async def fixture_world(tmp_path: Path, autojump_clock: Any) -> AsyncIterator[World]:
    chain, network = FakeChain(), Liars()
    bank = FakeBank(SessionFiles(tmp_path, b"g" * 32, b"a" * 32))
    routes = Routes(chain, WorkerMemory())
    async with open_pool(bank, bank.files, PoolRules(), lambda _: None) as pool, trio.open_nursery() as nursery:
        parts = InferenceParts(chain, network, pool, routes, nursery)  # type: ignore[arg-type]
        yield World(chain, network, bank, PaidInference(parts), parts)
        nursery.cancel_scope.cancel()


async def test_tokens_that_were_given_are_not_given_again(world: World, autojump_clock: Any) -> None:
    """The same order under way a second time would hand its caller a second answer in the middle of the first."""
    world.chain.add("liar")
    Liars.given = 2
    got: list[int] = []

    async def ask() -> None:
        async with world.inference.ask(ASK) as answer:
            async for one in answer:
                assert isinstance(one, Generated)
                got.append(one.token)

    with pytest.raises(RequestLost):
        await ask()
    assert got == [7, 8]
    assert len(world.network.machines) == 1


async def test_a_promised_prompt_is_promised_once_an_order(world: World, autojump_clock: Any) -> None:
    """What is promised stays owed: the slice is not dead, and the cost is not counted for each repetition."""
    world.chain.add("liar")
    Liars.given = 0
    failure: Exception | None = None
    try:
        await world.ask()
    except Exception as error:
        failure = error
    assert failure is not None
    requests = [one.request for one in world.network.machines]
    assert len(requests) == len(set(requests)), "an order that was promised is not sent again"
    (made,) = {id(one): one for one in world.inference._made.values()}.values()  # noqa: SLF001
    assert all(made.is_owed(one) for one in requests)
    held = world.inference.find_session(made.session)
    assert held is not None
    assert held.book.dead == 0


async def test_one_liar_does_not_end_requests_that_others_serve(
    world: World, autojump_clock: Any, monkeypatch: Any
) -> None:
    """The cheapest worker refuses every order as malformed: nobody is served if it is believed."""
    monkeypatch.setattr(Liars, "_play", FakeNetwork._play)  # noqa: SLF001
    world.chain.add("cheap", price=1)
    world.chain.add("dear", price=5)
    for code in (FailureCode.BAD_INPUT, FailureCode.UNVOUCHED, FailureCode.CANCELLED):
        world.network.scripts["cheap"] = [code]
        tokens, answer = await world.ask()
        assert len(tokens) == 4
        assert answer.workers[0].peer_id == "dear"
        await trio.sleep(100)
    world.network.scripts["cheap"] = [FailureCode.BAD_ORDER] * 2
    tokens, _ = await world.ask()
    assert len(tokens) == 4


async def test_an_acceptance_after_the_refusal_of_another_stage_breaks_nothing() -> None:
    """Each stage answers by itself, so one may accept what another has refused already."""
    order = make_order((1, 2, 3), 4, 2)
    machine = ClientRequest(order, (1, 2, 3), SESSION_KEY)
    sender, receiver = trio.open_memory_channel[Any](10)
    run = transport._RequestRun(machine, [], [], sender, lambda _stage: True)  # noqa: SLF001
    run._take(1, Failed(machine.request, FailureCode.NO_CAPACITY, "full"))  # noqa: SLF001
    run._take(0, Accepted(machine.request))  # noqa: SLF001
    assert [one async for one in receiver] == [RequestFailed(1, FailureCode.NO_CAPACITY, "full")]
