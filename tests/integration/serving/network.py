"""Workers with real shards and real libp2p hosts in one event loop, over a chain of dictionaries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio

from inference.engine.engine import StageEngine, load_session
from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, TokenReceived
from inference.serving.record import RequestRecord
from node.client.transport import StagePeer, open_request
from node.p2p.host import P2PHost, open_host
from node.serving.chain import SessionEntry, WorkerEntry
from node.worker.compute import ComputeLoop
from node.worker.server import WorkerParts, WorkerServer
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import Settle
from proto_specs.types.request import (
    Order,
    PathStage,
    SamplingParams,
    SignedOrder,
    compute_prompt_hash,
    sign_order,
)
from tests.integration.serving.conftest import DictChain, Model

GENESIS = b"g" * 32
SESSION = b"s" * 32
SESSION_KEY = SigningKey.from_seed(b"c" * 32)
GREEDY = SamplingParams(0, 0, 1000, 0)


@dataclass
class MemoryKeeper:
    """Keeps records and settlements in memory."""

    records: dict[bytes, RequestRecord] = field(default_factory=dict)
    settlements: dict[bytes, Settle] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)

    async def wait_kept(self, count: int) -> None:
        while len(self.records) < count:
            await self.changed.wait()

    async def retain(self, record: RequestRecord) -> None:
        self.records[record.output_leaves[0].leaf.request] = record
        self.changed.set()
        self.changed = trio.Event()

    async def settle(self, request: bytes, call: Settle) -> bytes | None:
        self.settlements[request] = call
        return b"x" * 32


@dataclass
class Stage:
    """One running worker."""

    entry: WorkerEntry
    host: P2PHost
    server: WorkerServer
    keeper: MemoryKeeper


@dataclass
class Network:
    """A path of workers and a client's host."""

    model: Model
    chain: DictChain
    stages: list[Stage]
    client: P2PHost

    def make_order(
        self, prompt: tuple[int, ...], tokens_max: int, sequence: int, changes: dict[str, object] | None = None
    ) -> SignedOrder:
        payload = b"".join(one.to_bytes(4, "little") for one in prompt)
        path = tuple(PathStage(one.entry.worker, one.entry.start, one.entry.end, 1, 2) for one in self.stages)
        fields: dict[str, object] = {
            "genesis": GENESIS,
            "session": SESSION,
            "sequence": sequence,
            "model": self.model.model_id,
            "service_class": 0,
            "prompt_hash": compute_prompt_hash(payload),
            "prompt_tokens": len(prompt),
            "tokens_max": tokens_max,
            "sampling": GREEDY,
            "path": path,
        }
        return sign_order(Order(**{**fields, **(changes or {})}), SESSION_KEY)  # type: ignore[arg-type]

    async def ask(
        self, order: SignedOrder, prompt: tuple[int, ...]
    ) -> tuple[list[int], SettlementSent | RequestFailed]:
        """Tokens and how it ended."""
        machine = ClientRequest(order, prompt, SESSION_KEY)
        peers = [StagePeer(f"stage {at}", one.host.peer_id, one.entry.addresses) for at, one in enumerate(self.stages)]
        tokens: list[int] = []
        async with open_request(self.client, machine, peers) as progress:
            async for event in progress:
                if isinstance(event, TokenReceived):
                    tokens.append(event.token)
                else:
                    return tokens, event
        raise AssertionError("a request ends with a settlement or a failure")


@asynccontextmanager
async def open_network(model: Model, ranges: list[tuple[int, int]], kv_positions: int = 4096) -> AsyncIterator[Network]:
    """Workers for `ranges`, connected to nobody yet."""
    chain = DictChain(GENESIS, manifests={model.model_id: model.manifest})
    client_account = b"a" * 32
    chain.sessions[SESSION] = SessionEntry(
        SESSION, client_account, SESSION_KEY.public_key, model.model_id, 10, 10**9, 1000, True, True
    )
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stages = []
        for number, (start, end) in enumerate(ranges):
            key = SigningKey.from_seed(bytes([number + 1]) * 32)
            host = await stack.enter_async_context(open_host(bytes([number + 65]) * 32, ["/ip4/127.0.0.1/tcp/0"]))
            entry = WorkerEntry(
                key.public_key,
                bytes(32),
                model.model_id,
                start,
                end,
                10**9,
                10**9,
                host.peer_id,
                tuple(host.addresses),
                1,
                2,
                True,
            )
            chain.workers[entry.worker] = entry
            session = await trio.to_thread.run_sync(load_session, model.store, model.model_id, start, end, 1, False)
            compute = ComputeLoop(StageEngine(session, kv_positions), model.manifest)
            nursery.start_soon(compute.run)
            keeper = MemoryKeeper()
            parts = WorkerParts(entry, model.manifest, key, chain, compute, keeper)
            stages.append(Stage(entry, host, WorkerServer(host, nursery, parts), keeper))
        client = await stack.enter_async_context(open_host(b"z" * 32, ["/ip4/127.0.0.1/tcp/0"]))
        yield Network(model, chain, stages, client)
        nursery.cancel_scope.cancel()
