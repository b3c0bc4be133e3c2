"""A chain that takes no time: its answers are told before, so that only serving is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from node.client.chain_view import SessionEntry, WorkerEntry
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import Settle
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import Order, PathStage, SignedOrder, compute_prompt_hash, pack_tokens, sign_order
from proto_specs.types.sampling import SamplingParams

GENESIS = b"g" * 32
SESSION = b"s" * 32
SESSION_KEY = SigningKey.from_seed(b"c" * 32)
ESCROW_NMYL = 10**15
SLICE_NMYL = 10**9
PRICE_NMYL = 1
GREEDY = SamplingParams(0, 0, 1000, 0)


@dataclass
class ToldChain:
    """A `ChainView` over what it was told."""

    genesis: bytes
    manifest: Manifest
    model: bytes
    workers: dict[bytes, WorkerEntry] = field(default_factory=dict)

    async def get_session(self, session: bytes) -> SessionEntry | None:
        """See ChainView."""
        await trio.lowlevel.checkpoint()
        return make_session(self.model) if session == SESSION else None

    async def is_sequence_used(self, _session: bytes, _sequence: int) -> bool:
        """See ChainView."""
        await trio.lowlevel.checkpoint()
        return False

    async def get_settled_positions(self, _request: bytes) -> int | None:
        """See ChainView."""
        await trio.lowlevel.checkpoint()
        return None

    async def find_unjudgeable(self, _model: bytes, _client: bytes, _operators: Sequence[bytes]) -> int | None:
        """See AdmissionView."""
        await trio.lowlevel.checkpoint()
        return None

    async def get_worker(self, worker: bytes, *, fresh: bool = False) -> WorkerEntry | None:
        """See ChainView."""
        await trio.lowlevel.checkpoint()
        return self.workers.get(worker)

    async def list_workers(self, _model: bytes) -> tuple[WorkerEntry, ...]:
        """See ChainView."""
        await trio.lowlevel.checkpoint()
        return tuple(self.workers.values())

    async def get_manifest(self, _model: bytes) -> Manifest | None:
        """See ChainView."""
        await trio.lowlevel.checkpoint()
        return self.manifest


class PaidAccount:
    """An account whose every settlement is taken."""

    def __init__(self) -> None:
        self.settled = 0

    async def send(self, _call: Settle, _tip: int = 0, _signed: Any = None, _instead_of: int | None = None) -> bytes:
        """See SigningAccount."""
        await trio.lowlevel.checkpoint()
        self.settled += 1
        return self.settled.to_bytes(32, "big")


def make_session(model: bytes) -> SessionEntry:
    """One open session that lasts."""
    return SessionEntry(
        session=SESSION,
        client=b"a" * 32,
        session_key=SESSION_KEY.public_key,
        model=model,
        max_price=PRICE_NMYL,
        deposit=ESCROW_NMYL,
        released=0,
        escrow=ESCROW_NMYL,
        requests_left=10**6,
        is_open=True,
        is_settleable=True,
        opened_height=1,
        expiry_height=10**6,
        height=1,
    )


def make_worker_key(number: int) -> SigningKey:
    """The key of stage `number`."""
    return SigningKey.from_seed(number.to_bytes(32, "big"))


def make_entry(
    model: bytes, number: int, layers: tuple[int, int], peer_id: str, addresses: Sequence[str]
) -> WorkerEntry:
    """Stage `number` as the chain would show it."""
    return WorkerEntry(
        worker=make_worker_key(number).public_key,
        operator=bytes(32),
        model=model,
        start=layers[0],
        end=layers[1],
        bond=ESCROW_NMYL,
        gross_max=ESCROW_NMYL,
        peer_id=peer_id,
        addresses=tuple(addresses),
        prefill_price=PRICE_NMYL,
        decode_price=PRICE_NMYL,
        is_active=True,
        is_leaving=False,
    )


def make_path_order(
    model: bytes,
    path: Sequence[WorkerEntry],
    prompt: Sequence[int],
    tokens_max: int,
    sequence: int,
    changes: Any = None,
) -> SignedOrder:
    """An order number `sequence` over a path, greedy, signed. `changes` are fields to set otherwise."""
    order = Order(
        genesis=GENESIS,
        session=SESSION,
        sequence=sequence,
        slice_start=sequence * SLICE_NMYL,
        slice_end=(sequence + 1) * SLICE_NMYL,
        model=model,
        service_class=0,
        prompt_hash=compute_prompt_hash(pack_tokens(prompt)),
        prompt_tokens=len(prompt),
        tokens_max=tokens_max,
        sampling=GREEDY,
        path=tuple(PathStage(one.worker, one.start, one.end, PRICE_NMYL, PRICE_NMYL) for one in path),
    )
    return sign_order(dataclasses.replace(order, **(changes or {})), SESSION_KEY)
