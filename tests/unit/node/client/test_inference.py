"""Requests over a scripted network: another path before the first token and after it, and what is owed."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from inference.routing import Prefer
from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, TokenReceived
from node.client.answer import Ask, Generated, Resolution
from node.client.attempt import PATHS_MAX
from node.client.chain_view import WorkerEntry
from node.client.errors import InferenceRefused, NobodyServes, RequestLost
from node.client.inference import InferenceParts, PaidInference
from node.client.purse import PoolRules
from node.client.routes import Routes
from node.client.rpc_chain import Health
from node.client.session_files import SessionFiles
from node.client.session_pool import open_pool
from node.client.transport import AnswerSigned, MayReplace, StageAccepted, StageLost, StagePeer, StageUnreachable
from node.client.worker_memory import WorkerMemory
from proto_specs.types.request import Continuation, compute_prompt_hash, compute_request_id, pack_tokens
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.wire import FailureCode, FinishReason
from tests.property.inference.serving.harness import LAYERS, make_manifest
from tests.unit.node.client.banks import FakeBank

MODEL = bytes(32)
GREEDY = SamplingParams(0, 0, 1000, 0)
ASK = Ask(MODEL, (1, 2, 3), 4, GREEDY, 10)

UNREACHABLE = "unreachable"
Script = FailureCode | str | int | tuple[int, FailureCode] | None
"""What a worker does: None serves; a code refuses; an int dies after so many tokens, or gives up with a code."""


@dataclass
class FakeChain:
    """Workers of one model, and the requests that were settled."""

    genesis: bytes = b"g" * 32
    workers: dict[bytes, WorkerEntry] = field(default_factory=dict)
    height: int = 1
    lists: int = 0
    sessions: dict[bytes, Any] = field(default_factory=dict)
    is_current: bool = True

    async def get_height(self) -> int:
        await trio.sleep(0.05)
        return self.height

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        await trio.sleep(0.05)
        self.lists += 1
        return tuple(self.workers.values())

    async def get_manifest(self, model: bytes) -> Any:
        return make_manifest() if model == MODEL else None

    async def read(self, query: Any, *args: Any) -> Any:
        return None

    async def get_health(self) -> Health:
        await trio.sleep(0.05)
        return Health(self.height, is_current=self.is_current)

    async def get_session(self, session: bytes) -> Any:
        return self.sessions.get(session)

    def add(self, name: str, start: int = 0, end: int = LAYERS, price: int = 1, **changes: Any) -> bytes:
        key = name.encode().ljust(32, b"_")
        entry = WorkerEntry(key, bytes(32), MODEL, start, end, 10**9, 10**9, name, (), price, price, True, False)
        self.workers[key] = dataclasses.replace(entry, **changes)
        return key


class FakeLink:
    def reset(self, reason: str) -> None:
        pass


@dataclass
class FakeNetwork:
    """A `RequestTransport` that plays what each worker (by the peer id, its name) is scripted to do."""

    scripts: dict[str, list[Script]] = field(default_factory=dict)
    machines: list[ClientRequest] = field(default_factory=list)
    dialled: list[list[str]] = field(default_factory=list)
    cancelled: int = 0
    on_open: Callable[[], None] = lambda: None

    async def connect(self, peers: Sequence[StagePeer]) -> list[Any]:
        await trio.sleep(0.01)
        self.dialled.append([one.peer_id for one in peers])
        for number, peer in enumerate(peers):
            if self._peek(peer.peer_id) == UNREACHABLE:
                self._next(peer.peer_id)
                raise StageUnreachable(number, f"{peer.peer_id} cannot be reached")
        return [FakeLink() for _ in peers]

    @asynccontextmanager
    async def open(
        self,
        machine: ClientRequest,
        peers: Sequence[StagePeer],
        links: list[Any],
        may_replace: MayReplace,
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Any]]:
        self.machines.append(machine)
        self.on_open()
        sender, receiver = trio.open_memory_channel[Any](1000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._play, machine, peers, sender)
            try:
                yield receiver
            finally:
                self.cancelled += not machine.is_signed
                nursery.cancel_scope.cancel()

    async def _play(self, machine: ClientRequest, peers: Sequence[StagePeer], sender: Any) -> None:
        dies_after: int | None = None
        failure: RequestFailed = StageLost(0, FailureCode.NEIGHBOUR_LOST, "stage 0 went away")
        for number, peer in enumerate(peers):
            await trio.sleep(0.01)
            act = self._next(peer.peer_id)
            if isinstance(act, FailureCode):
                sender.send_nowait(RequestFailed(number, act, f"{peer.peer_id} says {act.name}"))
                return
            if isinstance(act, tuple):
                dies_after, failure = act[0], RequestFailed(0, act[1], f"{peer.peer_id} says {act[1].name}")
            dies_after = act if isinstance(act, int) else dies_after
            sender.send_nowait(StageAccepted(number))
        for index in range(machine.tokens_max):
            await trio.sleep(0.1)
            if index == dies_after:
                sender.send_nowait(failure)
                return
            is_last = index + 1 == machine.tokens_max
            machine._vouched = index + 1  # noqa: SLF001
            machine._tokens.append(7 + index)  # noqa: SLF001
            sender.send_nowait(TokenReceived(index, 7 + index, FinishReason.LENGTH if is_last else FinishReason.NONE))
        sender.send_nowait(AnswerSigned())
        await trio.sleep(0.5)
        sender.send_nowait(SettlementSent(bytes(32)))
        sender.close()

    def _peek(self, name: str) -> Script:
        return self.scripts[name][0] if self.scripts.get(name) else None

    def _next(self, name: str) -> Script:
        return self.scripts[name].pop(0) if self.scripts.get(name) else None


@dataclass
class World:
    chain: FakeChain
    network: FakeNetwork
    bank: FakeBank
    inference: PaidInference
    parts: InferenceParts

    async def ask(self, ask: Ask = ASK) -> tuple[list[int], Any]:
        async with self.inference.ask(ask) as answer:
            tokens = [one.token async for one in answer if isinstance(one, Generated)]
        return tokens, answer


@pytest.fixture
async def world(tmp_path: Path, autojump_clock) -> AsyncIterator[World]:
    chain, network = FakeChain(), FakeNetwork()
    bank = FakeBank(SessionFiles(tmp_path, b"g" * 32, b"a" * 32))
    routes = Routes(chain, WorkerMemory())
    async with open_pool(bank, bank.files, PoolRules(), lambda _: None) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(routes.run)
        parts = InferenceParts(chain, network, pool, routes, nursery)  # type: ignore[arg-type]
        yield World(chain, network, bank, PaidInference(parts), parts)
        nursery.cancel_scope.cancel()


async def test_an_answer_tells_its_path_and_costs(world: World, autojump_clock) -> None:
    world.chain.add("a", 0, 3, 2)
    world.chain.add("b", 3, 6, 3)
    async with world.inference.ask(ASK) as answer:
        assert [one.worker[:1] for one in answer.path] == [b"a", b"b"]
        assert answer.cost_nmyl == 0
        assert answer.cost_max_nmyl == (3 * 2 + 3 * 3) * (3 + 4)
        items = [one async for one in answer]
    assert [one.token for one in items] == [7, 8, 9, 10]
    assert [one.finish for one in items] == [*[FinishReason.NONE] * 3, FinishReason.LENGTH]
    assert answer.cost_nmyl == answer.cost_max_nmyl
    assert answer.session in world.bank.sessions
    assert world.network.cancelled == 0
    times = answer.times
    assert times.routed_s <= times.connected_s <= times.ordered_s <= times.accepted_s <= times.first_token_s


async def test_the_second_request_waits_for_no_chain(world: World, autojump_clock) -> None:
    world.chain.add("a")
    await world.ask()
    await trio.sleep(60)
    _, answer = await world.ask()
    assert answer.times.connected_s == pytest.approx(0.01, abs=0.001), "neither workers nor session are read"
    assert len(world.bank.sessions) == 1


async def test_workers_are_read_once_a_block_and_only_while_used(world: World, autojump_clock) -> None:
    world.chain.add("a")
    await world.ask()
    assert world.chain.lists == 1
    await trio.sleep(10)
    assert world.chain.lists == 1
    world.chain.height += 1
    await trio.sleep(10)
    assert world.chain.lists == 2
    await trio.sleep(1000)
    world.chain.height += 1
    await trio.sleep(10)
    assert world.chain.lists == 2


@pytest.mark.parametrize(
    "act", [UNREACHABLE, FailureCode.NO_CAPACITY, FailureCode.INTERNAL, FailureCode.NEIGHBOUR_LOST, 0]
)
async def test_another_path_is_taken_before_the_caller_sees_an_error(world: World, autojump_clock, act: Script) -> None:
    cheap = world.chain.add("cheap", price=1)
    world.chain.add("dear", price=5)
    world.network.scripts["cheap"] = [act]
    tokens, answer = await world.ask()
    assert len(tokens) == 4
    assert answer.workers[0].peer_id == "dear"
    world.network.dialled.clear()
    await world.ask()
    assert world.network.dialled == [["dear"]], "it is left out for the next request"
    await trio.sleep(10)
    _, later = await world.ask(dataclasses.replace(ASK, prefer=Prefer.CHEAP))
    assert later.workers[0].worker == cheap, "and tried again later"


async def test_an_order_that_was_never_sent_loses_no_slice(world: World, autojump_clock) -> None:
    world.chain.add("cheap", price=1)
    world.chain.add("dear", price=5)
    world.network.scripts["cheap"] = [UNREACHABLE]
    _, answer = await world.ask()
    held = world.inference.find_session(answer.session)
    assert held is not None
    assert held.book.dead == 0


async def test_a_failing_worker_is_tried_when_nobody_else_serves(world: World, autojump_clock) -> None:
    world.chain.add("only")
    world.network.scripts["only"] = [UNREACHABLE]
    with pytest.raises(NobodyServes, match="only cannot be reached"):
        await world.ask()
    tokens, _ = await world.ask()
    assert len(tokens) == 4


async def test_capacity_is_told_from_failure(world: World, autojump_clock) -> None:
    for name in "abcdef":
        world.chain.add(name)
        world.network.scripts[name] = [FailureCode.NO_CAPACITY]
    with pytest.raises(NobodyServes, match="in a moment") as busy:
        await world.ask()
    assert busy.value.is_busy
    assert len(busy.value.reasons) == PATHS_MAX


@pytest.mark.parametrize("code", [FailureCode.BAD_INPUT, FailureCode.CANCELLED, FailureCode.UNVOUCHED])
@pytest.mark.parametrize("names", ["a", "abc"])
async def test_what_two_paths_or_the_only_one_refuse_is_raised(
    world: World, autojump_clock, code: FailureCode, names: str
) -> None:
    for name in names:
        world.chain.add(name)
        world.network.scripts[name] = [code]
    with pytest.raises(InferenceRefused, match=code.name):
        await world.ask()
    assert len(world.network.dialled) == min(2, len(names))


async def test_a_price_that_rose_is_read_again_once(world: World, autojump_clock) -> None:
    key = world.chain.add("a", price=1)
    await world.ask()
    world.chain.workers[key] = dataclasses.replace(world.chain.workers[key], prefill_price=2)
    world.network.scripts["a"] = [FailureCode.PRICE_TOO_LOW]
    _, answer = await world.ask()
    assert answer.path[0].prefill_price == 2
    world.network.scripts["a"] = [FailureCode.PRICE_TOO_LOW] * 2
    with pytest.raises(InferenceRefused, match="PRICE_TOO_LOW"):
        await world.ask()


async def test_a_node_that_has_not_seen_the_opening_yet_gets_the_same_order_again(world: World, autojump_clock) -> None:
    world.chain.add("a")
    world.network.scripts["a"] = [FailureCode.NO_ESCROW] * 3
    tokens, answer = await world.ask()
    assert len(tokens) == 4
    assert len({one.request for one in world.network.machines}) == 1
    held = world.inference.find_session(answer.session)
    assert held is not None
    assert held.book.dead == 0


async def test_an_answer_that_loses_its_path_goes_on_over_another(world: World, autojump_clock) -> None:
    """Nothing was signed by all yet: the order that goes on bills the prompt again, and the answer so far as prompt."""
    world.chain.add("a", price=1)
    world.chain.add("b", price=1)
    world.network.scripts["a"] = world.network.scripts["b"] = [2]
    tokens, answer = await world.ask()
    assert tokens == [7, 8, 7, 8]
    first, second = (one.order.order for one in world.network.machines)
    assert first.continuation is None
    assert second.continuation == Continuation(compute_request_id(first), 1, 3, 0)
    assert (second.prompt_tokens, second.tokens_max) == (5, 2)
    assert second.prompt_hash == compute_prompt_hash(pack_tokens((1, 2, 3, 7, 8)))
    assert second.session == first.session
    assert second.slice_start >= first.slice_end
    assert first.path != second.path
    assert answer.cost_nmyl == LAYERS * (5 + 2)
    assert answer.orders == 2


async def test_an_answer_that_nobody_can_go_on_with_is_lost_with_its_reason(world: World, autojump_clock) -> None:
    world.chain.add("a")
    world.network.scripts["a"] = [2]
    got: list[int] = []

    async def ask() -> None:
        async with world.inference.ask(ASK) as answer:
            async for one in answer:
                assert isinstance(one, Generated)
                got.append(one.token)

    with pytest.raises(RequestLost, match="stage 0 went away") as lost:
        await ask()
    assert got == [7, 8]
    assert lost.value.cost == 0
    assert len(world.network.machines) == 1


@pytest.mark.parametrize("code", [FailureCode.UNVOUCHED, FailureCode.NO_ESCROW, FailureCode.BAD_ORDER])
async def test_what_no_other_worker_would_do_better_ends_an_answer(
    world: World, autojump_clock, code: FailureCode
) -> None:
    for name in "abc":
        world.chain.add(name)
        world.network.scripts[name] = [(2, code)]
    with pytest.raises(RequestLost, match=code.name):
        await world.ask()
    assert len(world.network.machines) == 1


async def test_each_new_token_gives_an_answer_as_many_tries_again(world: World, autojump_clock) -> None:
    """A path a token: more paths than are tried without one."""
    for number in range(PATHS_MAX + 3):
        world.chain.add(f"w{number}")
        world.network.scripts[f"w{number}"] = [1]
    tokens, answer = await world.ask(dataclasses.replace(ASK, tokens_max=PATHS_MAX + 2))
    assert len(tokens) == PATHS_MAX + 2
    epochs = [one.order.order.epoch for one in world.network.machines]
    assert epochs == list(range(PATHS_MAX + 2))
    assert answer.orders == PATHS_MAX + 2


async def test_leaving_early_cancels_and_owes_what_was_vouched(world: World, autojump_clock) -> None:
    world.chain.add("a")
    async with world.inference.ask(ASK) as answer:
        async for _ in answer:
            break
    assert world.network.cancelled == 1
    assert answer.cost_nmyl == LAYERS * (3 + 1)
    held = world.inference.find_session(answer.session)
    assert held is not None
    assert (held.book.running, held.book.vouched, held.book.dead) == (0, 1, 0)


async def test_an_error_of_the_block_comes_through(world: World, autojump_clock) -> None:
    world.chain.add("a")

    async def fail() -> None:
        async with world.inference.ask(ASK):
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert world.network.cancelled == 1


async def test_a_request_without_a_voucher_is_lost_and_one_with_it_may_come(world: World, autojump_clock) -> None:
    world.chain.add("a")
    async with world.inference.ask(ASK) as early:
        pass
    assert (await world.inference.get_outcome(early.request)).resolution is Resolution.LOST
    _, answer = await world.ask()
    world.chain.sessions[answer.session] = type("Open", (), {"is_settleable": True})
    assert (await world.inference.get_outcome(answer.request)).resolution is Resolution.PENDING
    await trio.sleep(5)
    world.chain.sessions.clear()
    assert (await world.inference.get_outcome(answer.request)).resolution is Resolution.LOST
    assert (await world.inference.get_outcome(b"?" * 32)).resolution is Resolution.PENDING


async def test_requests_at_once_share_a_session_and_no_position(world: World, autojump_clock) -> None:
    world.chain.add("a")
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(world.ask)
    orders = [one._order.order for one in world.network.machines]  # noqa: SLF001
    slices = sorted((one.slice_start, one.slice_end) for one in orders)
    assert len({one.session for one in orders}) == 1
    assert sorted(one.sequence for one in orders) == list(range(20))
    assert all(before[1] <= after[0] for before, after in pairwise(slices))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sampling": SamplingParams(10**6, 0, 1000, 0)}, "temperature 1000"),
        ({"sampling": SamplingParams(0, 0, 1000, 2**64)}, "no unsigned 64-bit"),
        ({"tokens_max": 0}, "at least one"),
        ({"tokens_max": 10**6}, "positions"),
        ({"prompt": ()}, "at least one"),
        ({"model": b"x" * 32}, "not registered"),
        ({"grammar": b"{}"}, "grammar is not the one"),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_paid(
    world: World, autojump_clock, changes: dict[str, Any], reason: str
) -> None:
    world.chain.add("a")
    with pytest.raises(InferenceRefused, match=reason):
        await world.ask(dataclasses.replace(ASK, **changes))
    assert not world.bank.sessions
