"""The chain as workers, clients and verifiers see it: typed answers to the questions of serving."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from proto_specs.errors import ExitStatus, MyelinError
from proto_specs.types.manifest import Manifest


class ChainUnreachable(MyelinError):
    """The node that is asked about the chain does not answer. The message says which and what to try."""

    exit_status = ExitStatus.UNREACHABLE


class ReadRefused(ChainUnreachable):
    """The node responds but cannot answer now: it is busy, or limits the caller's rate."""


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """A registered worker: layers [start, end) of a model, its addresses, its price per layer and token.

    `gross_max` is the most nmyl a stage may earn by one request: beyond it the bond does not cover the exposure, and
    the whole settlement would fail. `is_active`: it takes work now. `is_leaving`: it never takes work again.
    `is_absent`: it takes none until it announces itself again. A worker that is none of these waits for the end of its
    operator's jail.
    """

    worker: bytes
    operator: bytes
    model: bytes
    start: int
    end: int
    bond: int
    gross_max: int
    peer_id: str
    addresses: tuple[str, ...]
    prefill_price: int
    decode_price: int
    is_active: bool
    is_leaving: bool
    is_absent: bool = False


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """A session: its payer, the key that signs its orders, its highest price, and its remaining escrow in nmyl.

    `deposit` is all that was ever escrowed, `released` what settled requests left of their slices of it.
    An open session takes `requests_left` more requests and lasts at least a notice period from now, which the chain
    considers enough to settle running requests. A session in its notice period is still settleable. `height` is the
    block of this state; `opened_height` and, while it is open, `expiry_height` never change.
    """

    session: bytes
    client: bytes
    session_key: bytes
    model: bytes
    max_price: int
    deposit: int
    released: int
    escrow: int
    requests_left: int
    is_open: bool
    is_settleable: bool
    opened_height: int
    expiry_height: int
    height: int

    @property
    def promisable(self) -> int:
        """The end of the positions that orders may promise. It never falls."""
        return self.deposit + self.released


class ChainView(Protocol):
    """Questions of serving. Every method raises ChainUnreachable when the node does not answer."""

    @property
    def genesis(self) -> bytes:
        """The chain's genesis hash."""

    async def get_session(self, session: bytes) -> SessionEntry | None:
        """A session by id; None when there is none."""

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        """Whether a request with this number was settled in a session."""

    async def get_settled_positions(self, request: bytes) -> int | None:
        """Positions that a request was settled with; None when it is not settled."""

    async def get_worker(self, worker: bytes, *, fresh: bool = False) -> WorkerEntry | None:
        """A worker by key; None when there is none. `fresh`: as it is now, not as it was read a while ago."""

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        """All workers registered for a model."""

    async def get_manifest(self, model: bytes) -> Manifest | None:
        """The manifest of a registered model; None when there is none."""


class StatementView(ChainView, Protocol):
    """What statements ask besides. Raises ChainUnreachable as well."""

    async def list_used(self, session: bytes, numbers: Collection[int]) -> frozenset[int]:
        """Those of the sequence numbers whose requests are settled in a session."""


class AdmissionView(ChainView, Protocol):
    """What a worker asks besides before it takes an order. Raises ChainUnreachable as well."""

    async def find_unjudgeable(self, model: bytes, client: bytes, operators: Sequence[bytes]) -> int | None:
        """The first stage of a path of these operators that too few verifiers could judge: it would not settle."""
