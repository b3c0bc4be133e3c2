"""Requests over a scripted network: workers that serve, refuse or die as told, on a chain of dictionaries."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, TokenReceived
from node.client.answer import Ask, Generated
from node.client.chain_view import WorkerEntry
from node.client.inference import InferenceParts, PaidInference
from node.client.purse import PoolRules
from node.client.routes import Routes
from node.client.rpc_chain import Health
from node.client.session_files import SessionFiles
from node.client.session_pool import open_pool
from node.client.transport import AnswerSigned, MayReplace, StageAccepted, StageLost, StagePeer, StageUnreachable
from node.client.worker_memory import WorkerMemory
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


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    """A world whose workers are read, and whose sessions are kept, under a directory."""
    chain, network = FakeChain(), FakeNetwork()
    bank = FakeBank(SessionFiles(directory, b"g" * 32, b"a" * 32))
    routes = Routes(chain, WorkerMemory())
    async with open_pool(bank, bank.files, PoolRules(), lambda _: None) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(routes.run)
        parts = InferenceParts(chain, network, pool, routes, nursery)  # type: ignore[arg-type]
        yield World(chain, network, bank, PaidInference(parts), parts)
        nursery.cancel_scope.cancel()
