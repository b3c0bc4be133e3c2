"""Settlements that a last stage holds back for a statement, on disk, and when it waits for one no longer.

A client that never asks for the statement's signatures, or never submits it, delays the payment and saves nothing: each
request then settles by itself.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.client.chain_view import SessionEntry, StatementView
from node.machine.files import write_synced
from node.worker.signed_statements import LAND_BLOCKS, SignedStatements
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError
from proto_specs.limits import EXTRINSIC_BYTES_MAX
from proto_specs.types.calls import Settle
from proto_specs.types.request import compute_billed_price

logger = logging.getLogger("myelin.worker")

SUFFIX: Final = ".held"
HELD_S: Final = 120.0
"""So long a settlement waits for a statement to be signed."""
LADEN_SHARE: Final = (1, 2)
"""Of what this stage may earn at once by its bond: beyond it the oldest settle, so that no cheat pays for itself."""


@dataclass(frozen=True, slots=True)
class WaitingSettlement:
    """A settlement that waits: its session and number, what this stage earns by it (nmyl), and since when (seconds)."""

    request: bytes
    session: bytes
    sequence: int
    gross: int
    since_s: float


class HeldSettlements:
    """One file each under `directory`. `gross_max`: the most nmyl that this stage may earn at once; None: unknown."""

    def __init__(self, directory: Path, signed: SignedStatements, wait_s: float = HELD_S) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._signed = signed
        self._wait_s = wait_s
        self.gross_max: int | None = None
        self.is_leaving = False
        """A worker that leaves waits for no statement."""
        self._held: dict[bytes, WaitingSettlement] = {}
        self._is_loaded = False

    def __len__(self) -> int:
        return len(self._held)

    async def hold(self, request: bytes, call: Settle) -> None:
        """Keep a settlement from now on. Raises OSError."""
        await trio.to_thread.run_sync(write_synced, self._path(request), encode(call))
        self._enter(request, call, trio.current_time())

    def drop(self, request: bytes) -> None:
        """The settlement is on chain, or is submitted from elsewhere."""
        self._path(request).unlink(missing_ok=True)
        self._held.pop(request, None)

    def load(self, request: bytes) -> Settle:
        """The settlement."""
        return decode(Settle, self._path(request).read_bytes(), EXTRINSIC_BYTES_MAX)

    async def list_due(self, chain: StatementView) -> list[bytes]:
        """Those to submit now, the oldest first; what the chain shows settled is dropped. Raises ChainUnreachable."""
        self._load_left()
        sessions: dict[bytes, SessionEntry | None] = {}
        for session in dict.fromkeys(one.session for one in self._held.values()):
            sessions[session] = await chain.get_session(session)
            numbers = {one.sequence: one.request for one in self._held.values() if one.session == session}
            for number in await chain.list_used(session, numbers):
                self.drop(numbers[number])
        # What was held since the chain was asked waits for the next round.
        waiting = sorted((one for one in self._held.values() if one.session in sessions), key=lambda one: one.since_s)
        due = [one for one in waiting if self._is_due(one, sessions[one.session])]
        due += self._list_laden([one for one in waiting if one not in due], sessions)
        return [one.request for one in due]

    def _is_due(self, one: WaitingSettlement, session: SessionEntry | None) -> bool:
        if session is None or not session.is_settleable:
            return True  # whoever pursues it says that it comes too late
        is_closing = not session.is_open
        if is_closing and session.expiry_height - session.height <= LAND_BLOCKS:
            return True
        if self._signed.is_landing(one.request, session.height):
            return False
        return is_closing or self.is_leaving or trio.current_time() - one.since_s > self._wait_s

    def _list_laden(
        self, waiting: list[WaitingSettlement], sessions: dict[bytes, SessionEntry | None]
    ) -> list[WaitingSettlement]:
        """The oldest of those that are beyond the bond's share, and in no statement that is on its way."""
        if self.gross_max is None:
            return []
        part, whole = LADEN_SHARE
        excess = sum(one.gross for one in waiting) - self.gross_max * part // whole
        due: list[WaitingSettlement] = []
        for one in waiting:
            session = sessions.get(one.session)
            if excess <= 0:
                break
            if session is None or not self._signed.is_landing(one.request, session.height):
                due.append(one)
                excess -= one.gross
        return due

    def _enter(self, request: bytes, call: Settle, since_s: float) -> None:
        order, tokens = call.order.order, call.voucher.voucher.tokens
        gross = compute_billed_price(order, order.path[-1], tokens, order.prompt_tokens)
        self._held[request] = WaitingSettlement(request, order.session, order.sequence, gross, since_s)

    def _load_left(self) -> None:
        """What an earlier run of this worker held: the wait goes on."""
        if self._is_loaded:
            return
        self._is_loaded = True
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            request = bytes.fromhex(path.stem)
            if request not in self._held:
                since_s = trio.current_time() - max(0.0, time.time() - path.stat().st_mtime)
                with contextlib.suppress(DecodeError):
                    self._enter(request, self.load(request), since_s)

    def _path(self, request: bytes) -> Path:
        return self._directory / f"{request.hex()}{SUFFIX}"
