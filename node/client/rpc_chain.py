"""The chain over JSON-RPC: runtime queries run unchanged over a remote state, so every answer is a typed record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import trio

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.inference import benches, queries
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import Request, Session, SessionStatus, Worker, WorkerStatus
from consensus.state.reader import StateReader
from node.client.chain_view import ReadRefused, SessionEntry, WorkerEntry
from node.client.rpc_errors import RpcError
from proto_specs.types.chain import Validator
from proto_specs.types.manifest import Manifest

P = ParamSpec("P")
T = TypeVar("T")


SLOW_AGE_S = 20.0
"""How long parameters and workers count as those of now. A worker that was jailed or ejected meanwhile is paid nothing
for its stage and hurts no other (inference_settlement.md), a range that changed still settles for a while, and a raised
price binds later than this. A worker that takes no work is read anew, for it may be back."""
HEIGHT_AGE_S = 0.25
"""How long a height counts as that of now: less than any block interval, so answers are a block late at most."""


class Rpc(Protocol):
    """A JSON-RPC connection."""

    async def call(self, method: str, *params: Any) -> Any:
        """The result of one call. Raises RpcUnreachable (a ChainUnreachable) or RpcError."""


class RemoteState:
    """A `StateReader` over JSON-RPC, for use in a thread of the trio loop that owns the connection."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def get(self, key: bytes) -> bytes | None:
        """The value under `key` in the latest finalized state."""
        found = trio.from_thread.run(self._rpc.call, "state_getStorage", f"0x{key.hex()}")
        return None if found is None else bytes.fromhex(found[2:])

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) under `prefix`, in order."""
        start: str | None = None
        while True:
            page = trio.from_thread.run(self._rpc.call, "state_getPairs", f"0x{prefix.hex()}", start)
            for key, value in page:
                yield bytes.fromhex(key[2:]), bytes.fromhex(value[2:])
            if not page:
                return
            start = page[-1][0]


@dataclass(frozen=True, slots=True)
class Health:
    """The node's height, and whether that block is recent: otherwise the node is catching up or the chain stands."""

    height: int
    is_current: bool


@dataclass(frozen=True, slots=True)
class _Block:
    """The height and what was read lately, and by when either has to be asked for again. Only registered workers are
    kept."""

    height: int
    params: InferenceParams
    until_s: float
    slow_until_s: float
    workers: dict[bytes, WorkerEntry] = field(default_factory=dict)
    verifiers: dict[bytes, list[Validator]] = field(default_factory=dict)
    reading: dict[bytes, trio.Lock] = field(default_factory=dict)
    """Whoever asks for a worker while it is read waits for that answer."""


class RpcChain:
    """`ChainView` of a node reached by JSON-RPC. Manifests never change under their id, so they are kept."""

    def __init__(self, rpc: Rpc, genesis: bytes) -> None:
        self.rpc = rpc
        self.genesis = genesis
        self._manifests: dict[bytes, Manifest] = {}
        self._block: _Block | None = None
        self._asking = trio.Lock()

    @classmethod
    async def connect(cls, rpc: Rpc) -> RpcChain:
        """Ask the node for the chain it is on."""
        return cls(rpc, bytes.fromhex((await rpc.call("chain_getBlockHash", 0))[2:]))

    async def read(self, query: Callable[Concatenate[StateReader, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a runtime query over the node's finalized state. Raises ChainUnreachable."""
        state = RemoteState(self.rpc)
        try:
            return await trio.to_thread.run_sync(lambda: query(state, *args, **kwargs))
        except RpcError as error:
            raise ReadRefused(f"the node refuses to be read: {error}") from error

    async def get_height(self) -> int:
        """Height of the last finalized block. What is asked after it is read anew. Raises ChainUnreachable."""
        self._block = None
        return await self._ask_height()

    async def _ask_height(self) -> int:
        try:
            header = await self.rpc.call("chain_getHeader")
        except RpcError as error:
            raise ReadRefused(f"the node refuses to be read: {error}") from error
        return int(header["height"])

    async def get_health(self) -> Health:
        """The node's progress. Raises ChainUnreachable."""
        try:
            found = await self.rpc.call("system_health")
        except RpcError as error:
            raise ReadRefused(f"the node refuses to be read: {error}") from error
        height = int(found["height"])
        return Health(height, is_current=bool(found["isHealthy"]) and height > 0)

    async def get_session(self, session: bytes) -> SessionEntry | None:
        """See ChainView. The session itself is read anew each time, since others settle in it."""
        block = await self._get_block()
        found = await self.read(queries.read_session, session)
        return None if found is None else make_session_entry(session, found, block.params, block.height)

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        """See ChainView."""
        return await self.read(queries.is_sequence_used, session, sequence)

    async def list_used(self, session: bytes, numbers: Collection[int]) -> frozenset[int]:
        """See StatementView."""
        return await self.read(queries.list_used_sequences, session, numbers)

    async def get_worker(self, worker: bytes, *, fresh: bool = False) -> WorkerEntry | None:
        """See ChainView. Each is read once in `SLOW_AGE_S`; a `fresh` one at once: it may have another address."""
        if fresh:
            await self.get_height()
        block = await self._get_block()
        async with block.reading.setdefault(worker, trio.Lock()):
            if worker not in block.workers:
                found = await self.read(read_worker_entry, worker, block.params, block.height)
                if found is None:
                    return None
                if not found.is_active:
                    return found
                block.workers[worker] = found
            return block.workers[worker]

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        """See ChainView. The entries are read each time; only the parameters may be as old as `SLOW_AGE_S`."""
        block = await self._get_block()
        return await self.read(list_worker_entries, model, block.params, block.height)

    async def find_unjudgeable(self, model: bytes, client: bytes, operators: Sequence[bytes]) -> int | None:
        """See AdmissionView. Who verifies a model is read once in `SLOW_AGE_S`."""
        block = await self._get_block()
        if model not in block.verifiers:
            block.verifiers[model] = await self.read(benches.list_eligible, model, set())
        return benches.find_unjudgeable(block.params, block.verifiers[model], client, operators)

    async def get_manifest(self, model: bytes) -> Manifest | None:
        """See ChainView."""
        if model not in self._manifests:
            found = await self.read(queries.read_manifest, model)
            if found is None:
                return None
            self._manifests[model] = found
        return self._manifests[model]

    async def _get_block(self) -> _Block:
        """The block of now, at most `HEIGHT_AGE_S` old. Whoever asks at the same time waits for the same answer."""
        async with self._asking:
            now_s, kept = trio.current_time(), self._block
            if kept is not None and now_s < kept.until_s:
                return kept
            height, until_s = await self._ask_height(), now_s + HEIGHT_AGE_S
            if kept is not None and now_s < kept.slow_until_s:
                self._block = replace(kept, height=height, until_s=until_s)
            else:
                self._block = _Block(height, await self.read(queries.read_params), until_s, now_s + SLOW_AGE_S)
            return self._block

    async def get_settled_positions(self, request: bytes) -> int | None:
        """See ChainView."""
        found = await self.get_request(request)
        return None if found is None else found.paid_positions

    async def get_request(self, request: bytes) -> Request | None:
        """A settled request."""
        return await self.read(queries.read_request, request)


def read_worker_entry(state: StateReader, worker: bytes, params: InferenceParams, height: int) -> WorkerEntry | None:
    """A worker's fields for serving, at a height."""
    found = queries.read_worker(state, worker)
    if found is None:
        return None
    is_jailed = queries.read_jail(state, found.operator) > height
    return make_worker_entry(worker, found, params, is_jailed=is_jailed)


def list_worker_entries(
    state: StateReader, model: bytes, params: InferenceParams, height: int
) -> tuple[WorkerEntry, ...]:
    """The fields for serving of all workers of a model, at a height."""
    found = queries.list_workers(state, model)
    jails = {one: queries.read_jail(state, one) for one in sorted({worker.operator for _, worker in found})}
    return tuple(
        make_worker_entry(key, worker, params, is_jailed=jails[worker.operator] > height) for key, worker in found
    )


def make_session_entry(session: bytes, found: Session, params: InferenceParams, height: int) -> SessionEntry:
    """A session's fields for serving."""
    lasts = found.close_height - height >= params.session_notice_blocks
    return SessionEntry(
        session=session,
        client=found.client,
        session_key=found.session_key,
        model=found.model,
        max_price=found.max_price,
        deposit=found.deposit,
        released=found.released,
        escrow=found.escrow,
        requests_left=found.requests_max - found.requests_settled,
        is_open=found.status == SessionStatus.OPEN and lasts and not found.is_convicted,
        is_settleable=found.status != SessionStatus.CLOSED,
        opened_height=found.opened_height,
        expiry_height=found.close_height,
        height=height,
    )


def make_worker_entry(worker: bytes, found: Worker, params: InferenceParams, *, is_jailed: bool) -> WorkerEntry:
    """A worker's fields for serving."""
    return WorkerEntry(
        worker=worker,
        operator=found.operator,
        model=found.model,
        start=found.start,
        end=found.end,
        bond=found.bond,
        gross_max=found.bond * params.detection_permille // (params.exposure_factor * PERMILLE),
        peer_id=found.peer_id,
        addresses=found.addresses,
        prefill_price=found.prefill_price,
        decode_price=found.decode_price,
        is_active=found.status == WorkerStatus.ACTIVE and not is_jailed,
        is_leaving=found.status not in (WorkerStatus.ACTIVE, WorkerStatus.ABSENT),
        is_absent=found.status == WorkerStatus.ABSENT,
    )
