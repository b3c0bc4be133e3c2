"""A chain of sessions in memory: every transaction takes two seconds, as two blocks do."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from node.client.errors import CallFailed
from node.client.escrow_bank import NewSession, SessionSight, SessionTerms
from node.client.session_files import SessionFiles, SessionNote
from proto_specs.ed25519 import SigningKey

BLOCK_S = 1.0
LIFETIME_BLOCKS = 3_600


@dataclass
class FakeSession:
    """A session on the fake chain."""

    promisable: int
    requests_max: int
    opened_height: int
    settled: int = 0
    is_open: bool = True


@dataclass
class FakeBank:
    """An `EscrowBank`."""

    files: SessionFiles
    free: int = 10**12
    height_offset: int = 10
    lifetime: int = LIFETIME_BLOCKS
    sessions: dict[bytes, FakeSession] = field(default_factory=dict)
    top_ups: list[int] = field(default_factory=list)
    closed: list[bytes] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    @property
    def height(self) -> int:
        return self.height_offset + int(trio.current_time() / BLOCK_S)

    async def read_terms(self) -> SessionTerms:
        return SessionTerms(notice_blocks=10, deposit_min=100)

    async def read_free(self) -> int:
        await trio.sleep(0.01)
        return self.free

    async def open(self, model: bytes, max_price: int, deposit: int, requests_max: int) -> NewSession:
        number = len(self.sessions)
        session = bytes([number + 1]) * 32
        kept = self.files.keep(SessionNote(session, bytes(32), model, self.height + 128))
        try:
            await self._transact()
        except CallFailed:
            kept.delete()
            raise
        self.free -= deposit
        self.sessions[session] = FakeSession(deposit, requests_max, self.height)
        key = SigningKey.from_seed(bytes([number]) * 32)
        return NewSession(session, key, deposit, requests_max, self.height, self.height + self.lifetime, kept)

    async def top_up(self, session: bytes, amount: int) -> None:
        await self._transact()
        self.free -= amount
        self.sessions[session].promisable += amount
        self.top_ups.append(amount)

    async def close(self, session: bytes) -> None:
        await self._transact()
        self.sessions[session].is_open = False
        self.closed.append(session)

    async def look(self, session: bytes) -> SessionSight | None:
        await trio.sleep(0.01)
        found = self.sessions.get(session)
        if found is None:
            return None
        return SessionSight(
            found.promisable,
            found.requests_max - found.settled,
            found.is_open,
            found.is_open,
            found.opened_height,
            found.opened_height + self.lifetime,
            self.height,
        )

    async def get_height(self) -> int:
        return self.height

    def settle(self, session: bytes, left_of_slice: int) -> None:
        """A request of the session settles below its slice."""
        self.sessions[session].settled += 1
        self.sessions[session].promisable += left_of_slice

    async def _transact(self) -> None:
        await trio.sleep(2 * BLOCK_S)
        if self.failures:
            raise self.failures.pop(0)


def make_refusal() -> CallFailed:
    """A transaction that the runtime refuses."""
    return CallFailed("OpenSession", "inference", "UnknownModel")
