"""Workers with real shards and real libp2p hosts in one event loop, over a chain of dictionaries."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from inference.decoding.source import ChooserSource
from inference.engine.engine import StageEngine, load_session
from inference.engine.ort import ShardSession
from inference.serving.client import (
    ClientRequest,
    PromptScored,
    RequestFailed,
    SettlementSent,
    StatementAwaited,
    TokenReceived,
)
from inference.serving.finished import FinishedRequest
from inference.serving.record import RequestRecord
from inference.serving.setup import StageSetup
from node.client.chain_view import SessionEntry, WorkerEntry
from node.client.transport import StagePeer, connect_stages, open_request
from node.p2p.host import P2PHost, open_host
from node.worker.archive import DiskRequestArchive
from node.worker.compute import ComputeLoop
from node.worker.drafting import NO_DRAFTS, DraftSource
from node.worker.request_journal import RequestJournal
from node.worker.server import WorkerParts, WorkerServer
from node.worker.service import serve_openings
from node.worker.statement_desk import StatementDesk, serve_statements
from node.worker.window_files import WindowFile
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import Settle
from proto_specs.types.promise_calls import JoinSettlement
from proto_specs.types.request import (
    Order,
    PathStage,
    SignedOrder,
    compute_prompt_hash,
    compute_request_id,
    sign_order,
)
from proto_specs.types.sampling import SamplingParams
from tests.integration.conftest import Model
from tests.integration.node.worker.proxy import Proxy, open_proxy
from tests.unit.node.worker.world import DictChain, FakeAccount

GENESIS = b"g" * 32
SESSION = b"s" * 32
SESSION_KEY = SigningKey.from_seed(b"c" * 32)
SLICE = 100_000
"""What each order may cost at most, of the deposit."""
GREEDY = SamplingParams(0, 0, 1000, 0)
Told = TokenReceived | PromptScored


@dataclass
class WatchedManager:
    """A real archive over a fake account, that tells what it was given."""

    disk: DiskRequestArchive
    records: dict[bytes, RequestRecord] = field(default_factory=dict)
    settlements: dict[bytes, Settle] = field(default_factory=dict)
    parts: dict[bytes, JoinSettlement] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)

    async def wait_kept(self, count: int) -> None:
        while len(self.records) < count:
            await self.changed.wait()

    def open_windows(self, setup: StageSetup) -> WindowFile:
        return self.disk.open_windows(setup)

    async def retain(self, record: RequestRecord) -> None:
        await self.disk.retain(record)
        self.records[record.output_leaves[0].leaf.request] = record
        self.changed.set()
        self.changed = trio.Event()

    async def settle(self, request: bytes, call: Settle) -> bytes | None:
        self.settlements[request] = call
        return await self.disk.settle(request, call)

    async def hold(self, request: bytes, call: Settle) -> None:
        await self.disk.hold(request, call)

    async def settle_later(self, request: bytes, call: Settle, wait_s: float) -> None:
        self.settlements.setdefault(request, call)
        await self.disk.settle_later(request, call, wait_s)

    def join_later(self, call: JoinSettlement | None, wait_s: float) -> None:
        if call is not None:
            self.parts[compute_request_id(call.order.order)] = call

    def leave(self, request: bytes) -> None:
        self.parts.pop(request, None)


@dataclass
class Stage:
    """One running worker. `scope` ends it, host and all; `proxy` stands before its address, where it was asked for."""

    entry: WorkerEntry
    host: P2PHost
    server: WorkerServer
    engine: StageEngine
    compute: ComputeLoop
    archive: WatchedManager
    account: FakeAccount
    scope: trio.CancelScope
    proxy: Proxy | None
    ended: trio.Event

    @property
    def is_idle(self) -> bool:
        return not self.server.requests and self.engine.budget.free == self.engine.budget.total


@dataclass
class Network:
    """A path of workers and a client's host."""

    model: Model
    chain: DictChain
    stages: list[Stage]
    client: P2PHost
    start: Callable[[int], Awaitable[Stage]]

    async def restart(self, number: int) -> None:
        """Kill a worker and start it again on what its disk has kept."""
        dead = self.stages[number]
        dead.scope.cancel()
        await dead.ended.wait()
        self.stages[number] = await self.start(number)

    def make_order(
        self, prompt: tuple[int, ...], tokens_max: int, sequence: int, changes: dict[str, object] | None = None
    ) -> SignedOrder:
        payload = b"".join(one.to_bytes(4, "little") for one in prompt)
        path = tuple(PathStage(one.entry.worker, one.entry.start, one.entry.end, 1, 2) for one in self.stages)
        fields: dict[str, object] = {
            "genesis": GENESIS,
            "session": SESSION,
            "sequence": sequence,
            "slice_start": sequence * SLICE,
            "slice_end": (sequence + 1) * SLICE,
            "model": self.model.model_id,
            "service_class": 0,
            "prompt_hash": compute_prompt_hash(payload),
            "prompt_tokens": len(prompt),
            "tokens_max": tokens_max,
            "sampling": GREEDY,
            "path": path,
        }
        return sign_order(Order(**{**fields, **(changes or {})}), SESSION_KEY)  # type: ignore[arg-type]

    def make_peers(self) -> list[StagePeer]:
        return [StagePeer(f"stage {at}", one.host.peer_id, one.entry.addresses) for at, one in enumerate(self.stages)]

    async def finish(self, order: SignedOrder, prompt: tuple[int, ...]) -> FinishedRequest:
        """A batched request, run to its end."""
        machine = ClientRequest(order, prompt, SESSION_KEY, batched=True)
        links = await connect_stages(self.client, self.make_peers())
        async with open_request(machine, self.make_peers(), links) as progress:
            async for event in progress:
                assert not isinstance(event, SettlementSent | RequestFailed), event
                if isinstance(event, StatementAwaited):
                    return event.finished
        raise AssertionError("a batched request ends with its roots")

    async def ask(
        self, order: SignedOrder, prompt: tuple[int, ...], grammar: bytes = b"", told: list[Told] | None = None
    ) -> tuple[list[int], SettlementSent | RequestFailed]:
        """Tokens and how it ended. `told` gets everything that came before."""
        machine = ClientRequest(order, prompt, SESSION_KEY, grammar)
        tokens: list[int] = []
        links = await connect_stages(self.client, self.make_peers())
        async with open_request(machine, self.make_peers(), links) as progress:
            async for event in progress:
                if isinstance(event, SettlementSent | RequestFailed):
                    return tokens, event
                if isinstance(event, TokenReceived):
                    tokens.append(event.token)
                if told is not None:
                    told.append(event)
        raise AssertionError("a request ends with a settlement or a failure")

    async def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Until no worker has a request or reserved memory."""
        with trio.fail_after(timeout_s):
            while not all(one.is_idle for one in self.stages):
                await trio.sleep(0.02)


@asynccontextmanager
async def open_network(
    model: Model,
    ranges: list[tuple[int, int]],
    kv_positions: int = 4096,
    proxied: Collection[int] = (),
    sessions: Mapping[int, ShardSession] | None = None,
    drafts: DraftSource = NO_DRAFTS,
) -> AsyncIterator[Network]:
    """Workers for `ranges`, connected to nobody yet. `sessions` are shards in place of the honest ones, by stage."""
    chain = DictChain(GENESIS, manifests={model.model_id: model.manifest})
    client_account = b"a" * 32
    chain.sessions[SESSION] = SessionEntry(
        SESSION,
        client_account,
        SESSION_KEY.public_key,
        model.model_id,
        10,
        10**9,
        0,
        10**9,
        1000,
        True,
        True,
        1,
        3_601,
        1,
    )
    directory = Path(tempfile.mkdtemp())
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        nursery = await stack.enter_async_context(trio.open_nursery())
        stages: list[Stage] = []
        all_made: list[_Made] = []

        async def start_stage(number: int) -> Stage:
            started: Stage = await nursery.start(_run_stage, all_made[number])
            return started

        for number, (start, end) in enumerate(ranges):
            session = (sessions or {}).get(number) or await trio.to_thread.run_sync(
                load_session, model.store, model.model_id, start, end, 1, False
            )
            proxy = await nursery.start(open_proxy) if number in proxied else None
            made = _Made(
                model, chain, number, (start, end), session, kv_positions, proxy, directory / str(number), drafts
            )
            all_made.append(made)
            stages.append(await start_stage(number))
        client = await stack.enter_async_context(open_host(b"z" * 32, ["/ip4/127.0.0.1/tcp/0"]))
        yield Network(model, chain, stages, client, start_stage)
        nursery.cancel_scope.cancel()


@dataclass(frozen=True)
class _Made:
    model: Model
    chain: DictChain
    number: int
    layers: tuple[int, int]
    session: ShardSession
    kv_positions: int
    proxy: Proxy | None
    directory: Path
    drafts: DraftSource


async def _run_stage(made: _Made, task_status: trio.TaskStatus[Stage] = trio.TASK_STATUS_IGNORED) -> None:
    key = SigningKey.from_seed(bytes([made.number + 1]) * 32)
    ended = trio.Event()
    with trio.CancelScope() as scope, closing(RequestJournal(made.directory / "requests.taken", 0)) as journal:
        seed = bytes([made.number + 65]) * 32
        async with open_host(seed, ["/ip4/127.0.0.1/tcp/0"]) as host, trio.open_nursery() as nursery:
            addresses = tuple(made.proxy.stand_before(one) if made.proxy else one for one in host.addresses)
            bond = gross_max = 10**9
            entry = WorkerEntry(
                key.public_key,
                bytes(32),
                made.model.model_id,
                *made.layers,
                bond,
                gross_max,
                host.peer_id,
                addresses,
                1,
                2,
                True,
                False,
            )
            made.chain.workers[entry.worker] = entry
            engine = StageEngine(made.session, made.kv_positions)
            compute = ComputeLoop(engine, ChooserSource(made.model.store, made.model.model_id, made.model.manifest))
            nursery.start_soon(compute.run)
            account = FakeAccount()
            disk = DiskRequestArchive(made.directory, account)  # type: ignore[arg-type]
            serve_openings(host, disk)
            serve_statements(host, StatementDesk(key, made.model.manifest, made.chain, disk))
            archive = WatchedManager(disk)
            parts = WorkerParts(
                entry, made.model.manifest, key, made.chain, compute, archive, journal, drafts=made.drafts
            )
            server = WorkerServer(host, nursery, parts)
            task_status.started(Stage(entry, host, server, engine, compute, archive, account, scope, made.proxy, ended))
            await trio.sleep_forever()
    ended.set()


def replace_session(network: Network, **fields: object) -> None:
    """The session with other fields, as the chain shows it from now on."""
    network.chain.sessions[SESSION] = replace(network.chain.sessions[SESSION], **fields)  # type: ignore[arg-type]
