"""A chain of dictionaries with one model, three workers and one open session, orders on it, and an account."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import trio

from consensus.runtime.inference import queries
from node.client.chain_view import ChainUnreachable, SessionEntry, WorkerEntry
from proto_specs.types.calls import Settle
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import SignedOrder, sign_order
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS, make_manifest, make_order

PROMPT = tuple(range(100, 140))
MODEL = bytes(32)
SESSION = bytes(32)


@dataclass
class DictChain:
    """A `ChainView` over dictionaries."""

    genesis: bytes
    sessions: dict[bytes, SessionEntry] = field(default_factory=dict)
    workers: dict[bytes, WorkerEntry] = field(default_factory=dict)
    manifests: dict[bytes, Manifest] = field(default_factory=dict)
    used: set[tuple[bytes, int]] = field(default_factory=set)
    settled: dict[bytes, int] = field(default_factory=dict)
    is_reachable: bool = True
    unjudgeable: int | None = None

    def _check(self) -> None:
        if not self.is_reachable:
            raise ChainUnreachable("no node")

    async def get_session(self, session: bytes) -> SessionEntry | None:
        self._check()
        return self.sessions.get(session)

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        self._check()
        return (session, sequence) in self.used

    async def list_used(self, session: bytes, numbers: Collection[int]) -> frozenset[int]:
        self._check()
        return frozenset(one for one in numbers if (session, one) in self.used)

    async def get_settled_positions(self, request: bytes) -> int | None:
        self._check()
        return self.settled.get(request)

    async def get_worker(self, worker: bytes, *, fresh: bool = False) -> WorkerEntry | None:
        self._check()
        return self.workers.get(worker)

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        self._check()
        return tuple(one for one in self.workers.values() if one.model == model)

    async def find_unjudgeable(self, model: bytes, client: bytes, operators: Any) -> int | None:
        self._check()
        return self.unjudgeable

    async def get_manifest(self, model: bytes) -> Manifest | None:
        self._check()
        return self.manifests.get(model)


NONCE = 7


@dataclass
class FakeAccount:
    """An account whose node answers as told: the chain's requests and sessions, and what became of transactions."""

    requests: dict[bytes, Any] = field(default_factory=dict)
    session: Any = field(default_factory=lambda: SimpleNamespace(is_settleable=True))
    challenge: Any = None
    is_reachable: bool = True
    refusal: Exception | None = None
    outcomes: dict[bytes, Exception | None] = field(default_factory=dict)
    sent: list[Settle] = field(default_factory=list)
    terms: list[tuple[int, int | None]] = field(default_factory=list)
    """Tip, and the nonce taken over, of each."""

    @property
    def chain(self) -> FakeAccount:
        return self

    def _check(self) -> None:
        if not self.is_reachable:
            raise ChainUnreachable("no node")

    async def send(self, call: Settle, tip: int = 0, signed: Any = None, instead_of: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self._check()
        if self.refusal is not None:
            raise self.refusal
        self.sent.append(call)
        self.terms.append((tip, instead_of))
        extrinsic = bytes([len(self.sent)]) * 32
        if signed is not None:
            signed(NONCE if instead_of is None else instead_of, extrinsic)
        return extrinsic

    async def find(self, extrinsic: bytes, name: str) -> None:
        self._check()
        outcome = self.outcomes.get(extrinsic)
        if outcome is not None:
            raise outcome

    async def get_request(self, request: bytes) -> Any:
        self._check()
        return self.requests.get(request)

    async def get_session(self, session: bytes) -> Any:
        self._check()
        return self.session

    async def read(self, query: Any, challenge: bytes) -> Any:
        self._check()
        assert query is queries.read_challenge
        return self.challenge


def make_chain() -> DictChain:
    """Three workers of two layers each at prices 1 and 2, a session of 10,000 nmyl for three requests."""
    chain = DictChain(bytes(32), manifests={MODEL: make_manifest()})
    session = SessionEntry(
        SESSION, b"a" * 32, SESSION_KEY.public_key, MODEL, 5, 10_000, 0, 10_000, 3, True, True, 1, 3_601, 1
    )
    chain.sessions[SESSION] = session
    for at, key in enumerate(WORKER_KEYS):
        entry = WorkerEntry(
            key.public_key, bytes(32), MODEL, 2 * at, 2 * at + 2, 10**6, 10**6, f"peer{at}", (), 1, 2, True, False
        )
        chain.workers[entry.worker] = entry
    return chain


def change_session(chain: DictChain, **fields: Any) -> None:
    """The session with other fields."""
    chain.sessions[SESSION] = dataclasses.replace(chain.sessions[SESSION], **fields)


def change_worker(chain: DictChain, stage: int, **fields: Any) -> None:
    """A worker with other fields."""
    key = WORKER_KEYS[stage].public_key
    chain.workers[key] = dataclasses.replace(chain.workers[key], **fields)


def change_order(**fields: Any) -> SignedOrder:
    """An order for 40 prompt and 20 new tokens (480 nmyl over all stages) with other fields, signed.

    Each sequence number has a slice of 1,000 nmyl of its own.
    """
    start = 1_000 * fields.get("sequence", 0)
    fields = {"slice_start": start, "slice_end": start + 1_000, **fields}
    return sign_order(dataclasses.replace(make_order(PROMPT, 20, 3).order, **fields), SESSION_KEY)
